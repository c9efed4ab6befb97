"""Tells other gateways which requests kill workers, and hears it from them: behind the calls, once a second."""

from __future__ import annotations

import asyncio

from cordee.policy.quarantine import Quarantine
from cordee.ports import AwayError, Clock, Marks

SHARE_S = 1.0  # a request proven at one gateway is refused at the others at most this much later


async def share(quarantine: Quarantine, marks: Marks, clock: Clock) -> None:
    """Runs until it is cancelled. While the store is away every gateway goes by what it knows."""
    shared: set[bytes] = set()
    while True:
        await asyncio.sleep(SHARE_S)
        try:
            await exchange(quarantine, marks, clock, shared)
        except AwayError:
            continue


async def exchange(quarantine: Quarantine, marks: Marks, clock: Clock, shared: set[bytes]) -> None:
    """Once. `shared`: what the others know already. Raises AwayError."""
    own = dict(quarantine.refused(clock.now()))
    shared &= own.keys()
    for mark, left_s in own.items():
        if mark not in shared:
            await marks.tell(mark, left_s)
            shared.add(mark)
    for mark, left_s in await marks.told():
        if mark not in shared and left_s > 0:
            quarantine.refuse(clock.now(), mark, left_s)
            shared.add(mark)
