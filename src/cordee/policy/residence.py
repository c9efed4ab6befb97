"""Decides which models stay in memory: who has to go so that another one fits, and who has been idle for long enough.

The least recently used idle one goes first, as in any cache whose entries cost about the same to bring back. A model that somebody
waits for or that answers is never sent away, and neither is one that is pinned.
"""

from __future__ import annotations

from collections.abc import Sequence

from cordee.domain.record import record


@record
class Resident:
    """A model in memory, of so many `bytes`, last asked for at `used_s`. `is_held`: it is pinned, or busy."""

    name: str
    bytes: int
    used_s: float
    is_held: bool


def who_goes(need: int, room: int, residents: Sequence[Resident]) -> tuple[str, ...] | None:
    """Names of those who make room for `need` bytes where `room` bytes are left, the least recently used first; () where nobody
    has to go, None where it would not fit even without all who may."""
    going: list[str] = []
    for one in sorted((one for one in residents if not one.is_held), key=lambda one: one.used_s):
        if room >= need:
            break
        going.append(one.name)
        room += one.bytes
    return tuple(going) if room >= need else None


def is_idle(now: float, used_s: float, idle_s: float, *, is_held: bool) -> bool:
    """Whether nobody has asked for it for so long that its memory is better used otherwise."""
    return not is_held and now - used_s >= idle_s
