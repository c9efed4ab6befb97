"""Port Limits in memory: the shared limits of gateways in one process, for the simulator and for tests.

It is also the words of the port: the store in the network does the same, step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from cordee.policy.lease import Ask, Grant, Kind
from cordee.ports import AwayError

MINUTE_S = 60.0


class MemoryLimits:
    """`now`: seconds of any clock that all share. `is_away`: set it to play a store that cannot be reached."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._buckets: dict[str, tuple[float, float]] = {}  # level, as of
        self._used: dict[str, int] = {}
        self._held: dict[str, dict[str, tuple[int, float]]] = {}  # by holder: how many, until when
        self.is_away = False

    async def lease(self, holder: str, asks: Sequence[Ask]) -> list[Grant]:
        if self.is_away:
            raise AwayError("the store of the limits is away")
        return [self._grant(holder, ask) for ask in asks]

    def _grant(self, holder: str, ask: Ask) -> Grant:
        if ask.kind is Kind.BUCKET:
            return self._from_bucket(ask)
        return self._from_window(ask) if ask.kind is Kind.WINDOW else self._held_by(holder, ask)

    def _from_bucket(self, ask: Ask) -> Grant:
        now = self._now()
        level, at = self._buckets.get(ask.name, (float(ask.burst), now))
        rate = ask.limit / MINUTE_S
        level = min(ask.burst, level + (now - at) * rate)
        granted = min(ask.amount, max(0, math.floor(level)))
        level = min(ask.burst, level - granted)
        self._buckets[ask.name] = (level, now)
        return Grant(granted, math.floor(level), 0.0 if level >= 1 else (1 - level) / rate)

    def _from_window(self, ask: Ask) -> Grant:
        used = self._used.get(ask.name, 0)
        granted = min(ask.amount, max(0, ask.limit - used))
        used = max(0, used + granted)
        self._used[ask.name] = used
        return Grant(granted, max(0, ask.limit - used))

    def _held_by(self, holder: str, ask: Ask) -> Grant:
        now = self._now()
        holders = self._held.setdefault(ask.name, {})
        others = sum(count for name, (count, until) in holders.items() if name != holder and until > now)
        granted = min(ask.amount, max(0, ask.limit - others))
        if granted:
            holders[holder] = (granted, now + ask.expires_s)
        else:
            holders.pop(holder, None)
        return Grant(granted, max(0, ask.limit - others - granted))
