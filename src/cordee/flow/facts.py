"""What can happen to a call while it waits: the closed list its coroutine is woken by."""

from __future__ import annotations

from dataclasses import dataclass

from cordee.domain.outcome import Refusal
from cordee.policy.after import Ended
from cordee.policy.seats import Seated


@dataclass(frozen=True, slots=True)
class Done:
    """The answer is whole."""


@dataclass(frozen=True, slots=True)
class Broken:
    """Attempt number `attempt` ended without an answer."""

    attempt: int
    ended: Ended
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """The client is no longer there; `for_good`: it said that it wants no more of the answer, so nobody comes back for it."""

    for_good: bool = False


@dataclass(frozen=True, slots=True)
class Expired:
    """A deadline passed; `what` names it."""

    what: str


@dataclass(frozen=True, slots=True)
class Closing:
    """This gateway is shutting down and its patience is over."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """The key, the signing in or the user behind the call has gone."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """A pause that the call asked for is over."""


Fact = Done | Broken | Gone | Expired | Closing | Revoked | Resumed | Seated | Refusal

DONE = Done()
GONE = Gone()
CANCELLED = Gone(for_good=True)
CLOSING = Closing()
REVOKED = Revoked()
RESUMED = Resumed()
