"""Who makes room for a call of a higher class, and what becomes of what it had computed.

A preempted sequence is *parked*: it goes on later where it was. What was computed of it stays in its slot as long as nobody needs
that; when somebody does, it is moved to a slot that holds less, saved to memory, or given up and computed again, whichever is
cheapest by measured rates. Nobody is preempted for an equal, and only so many times: then it is left to end, so that none goes
round in circles.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Protocol, TypeVar


class Way(Enum):
    """How what was computed of a parked sequence survives."""

    KEEP = "keep"  # in a slot
    SAVE = "save"  # in memory outside the cache
    RECOMPUTE = "recompute"  # not at all


class Runs(Protocol):
    """One that may be parked. `place` is its class, 0 the highest; `parkings` how often it was parked."""

    place: int
    parkings: int
    computed: int


Candidate = TypeVar("Candidate", bound=Runs)


def victim(running: Iterable[Candidate], priority: int, parkings_max: int) -> Candidate | None:
    """Who makes room for a call of class `priority`: of the lowest class below it the one with the least to move."""
    return max(
        (one for one in running if one.place > priority and one.parkings < parkings_max),
        key=lambda one: (one.place, -one.computed),
        default=None,
    )


def way(move_s: float | None, save_s: float | None, recompute_s: float) -> Way:
    """The cheapest: None where there is no slot to move to, or no memory to save in. Between equals what keeps more."""
    costs = [(Way.KEEP, move_s), (Way.SAVE, save_s), (Way.RECOMPUTE, recompute_s)]
    return min(((way, cost) for way, cost in costs if cost is not None), key=lambda each: each[1])[0]
