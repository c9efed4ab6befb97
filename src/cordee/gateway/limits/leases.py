"""Keeps the leased limits of a gateway supplied: one round with the store every `interval_s`, and only while anybody who has
limits calls. Nothing on the path of a call waits for it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from cordee.policy.lease import Leased
from cordee.ports import AwayError, Limits

log = logging.getLogger(__name__)
ROUND_MAX = 256  # asks that go out together


class Leases:
    """`holder` names this life of the gateway."""

    def __init__(self, limits: Limits, holder: str, now: Callable[[], float], interval_s: float) -> None:
        self.is_away = False
        self.interval_s = interval_s
        self._limits = limits
        self._holder = holder
        self._now = now
        self._active: set[Leased] = set()
        self._wake = asyncio.Event()

    def want(self, meter: Leased) -> None:
        """A call uses it: it takes part in the rounds until it is idle."""
        if meter not in self._active:
            self._active.add(meter)
            self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._active:
                await self.round()
                await asyncio.sleep(self.interval_s)

    async def round(self) -> None:
        """Ask for what the active meters need now, and give back what they do not."""
        meters = list(self._active)
        for start in range(0, len(meters), ROUND_MAX):
            await self._ask(meters[start : start + ROUND_MAX])

    async def give_back(self, meters: list[Leased]) -> None:
        """At the end of this gateway, of all it has: what it holds is free for the others at once."""
        now = self._now()
        pairs = [(meter, ask) for meter in meters if (ask := meter.back(now)) is not None]
        for start in range(0, len(pairs), ROUND_MAX):
            try:
                await self._limits.lease(self._holder, [ask for _, ask in pairs[start : start + ROUND_MAX]])
            except AwayError as error:
                log.info("leased limits were not given back: %s", error)
                return

    async def _ask(self, meters: list[Leased]) -> None:
        now = self._now()
        pairs = []
        for meter in meters:
            ask = meter.due(now)
            if ask is not None:
                pairs.append((meter, ask))
            elif meter.is_idle(now):
                self._active.discard(meter)
        if not pairs:
            return
        try:
            grants = await self._limits.lease(self._holder, [ask for _, ask in pairs])
        except AwayError as error:
            if not self.is_away:
                log.warning("limits are kept by each gateway for its share: %s", error)
            self.is_away = True
            for meter, _ in pairs:
                meter.lost(self._now())
            return
        if self.is_away:
            log.info("limits are leased again")
            self.is_away = False
        for (meter, ask), grant in zip(pairs, grants, strict=True):
            meter.granted(self._now(), ask, grant)
