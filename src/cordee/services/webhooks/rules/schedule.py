"""What follows from a try of a delivery: it is through, is tried again later, or has failed; and whether its endpoint is given up. Pure.

A server that answers 2xx has taken it. Everything else is tried again, at growing distances over days (Standard Webhooks, "Retry
schedule"), because servers of users are repaired by people. 410 says that nothing is wanted any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from cordee.domain.record import record

GONE = 410
_TAKEN_FROM, _TAKEN_BEFORE = 200, 300
RETRY_AFTER_S_MAX = 86_400.0


class State(Enum):
    """How a delivery is."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    FAILED = "failed"


@record
class Tried:
    """What came of a try. `status` 0: no answer; `why`: for the user, "" where the status says it."""

    status: int
    why: str = ""
    retry_after_s: float | None = None

    @property
    def is_taken(self) -> bool:
        return _TAKEN_FROM <= self.status < _TAKEN_BEFORE


@record
class Next:
    """How the delivery is now, and when it is tried again (in seconds from now) if it waits."""

    state: State
    wait_s: float = 0.0


def after(tried: Tried, tries: int, waits_s: Sequence[float], jitter: float, chance: float) -> Next:
    """`tries`: with this one; `jitter`: the share of a wait that chance moves it by; `chance`: evenly from 0 to 1."""
    if tried.is_taken:
        return Next(State.DELIVERED)
    if tried.status == GONE or tries > len(waits_s):
        return Next(State.FAILED)
    wait_s = waits_s[tries - 1] * (1 + jitter * (2 * chance - 1))
    asked_s = min(tried.retry_after_s or 0.0, RETRY_AFTER_S_MAX)
    return Next(State.WAITING, max(wait_s, asked_s))


def is_given_up(tried: Tried, failing_since: float | None, now: float, disable_s: float) -> bool:
    """Whether an endpoint is switched off. `failing_since`: of the first failure since it last took something."""
    if tried.is_taken:
        return False
    return tried.status == GONE or (failing_since is not None and now - failing_since >= disable_s)
