"""What is under way ends when the key, the signing in or the user behind it goes: every open call is looked at, but only when somebody may
have gone, so a call costs nothing for it.

Beside that everything is looked at now and then, for what was admitted before and began after a look.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from cordee.domain.caller import INFERENCE, Caller
from cordee.flow.facts import REVOKED
from cordee.flow.watch import Watch
from cordee.gateway.on_behalf import SYSTEM

LOOK_S = 10.0  # between two looks when nobody is known to have gone
Goes = Callable[[Caller], bool]


class Standing(Protocol):
    """Who is still there: adapters.credentials and adapters.keys have it."""

    def still(self, caller: Caller) -> Caller | None: ...


class Revocations:
    """`more`: what else ends with its caller, such as WebSockets and passages; each is given a function that tells who may not
    make calls any more."""

    def __init__(self, standing: Standing, watch: Watch, now: Callable[[], float]) -> None:
        self.more: list[Callable[[Goes], None]] = []
        self.ended = 0  # calls
        self._standing = standing
        self._watch = watch
        self._now = now
        self._looked_s = now()

    def look(self, *, somebody_may_have_gone: bool) -> None:
        """About once a second."""
        now = self._now()
        if not somebody_may_have_gone and now - self._looked_s < LOOK_S:
            return
        self._looked_s = now
        known: dict[int, bool] = {}  # by the identity of callers: thousands of calls have a few

        def goes(caller: Caller) -> bool:
            found = known.get(id(caller))
            if found is None:
                found = known[id(caller)] = self._goes(caller)
            return found

        for answer in list(self._watch.open):
            if answer.caller is not None and goes(answer.caller):
                self.ended += 1
                answer.box.post(REVOKED)
        for one in self.more:
            one(goes)

    def _goes(self, caller: Caller) -> bool:
        if caller.grant == SYSTEM:
            return False
        found = self._standing.still(caller)
        return found is None or (INFERENCE in caller.scopes and INFERENCE not in found.scopes)
