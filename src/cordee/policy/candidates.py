"""The replicas of one group that may be asked, those with room apart from those that are full, so that drawing one at random costs
the same among ten and among ten thousand.

A replica that is full is set aside when a draw meets it, and comes back when a fact makes room there: nobody looks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cordee.policy.fit import fits
from cordee.policy.replica import Replica, Want

if TYPE_CHECKING:
    from random import Random

SCAN_MAX = 16  # replicas looked at one by one; above it random candidates decide, so a decision costs the same
TRIES = 8  # draws that may miss before some are looked at in turn
LOOKS_MAX = 256  # of those, for a call with unusual wishes


class Candidates:
    """`open` may hold full ones that nobody has met yet; `full` holds none with room."""

    __slots__ = ("full", "open", "weight_max")

    def __init__(self) -> None:
        self.open: list[Replica] = []
        self.full: list[Replica] = []
        self.weight_max = 0.0

    def __len__(self) -> int:
        return len(self.open) + len(self.full)

    def add(self, replica: Replica) -> None:
        replica.group, replica.is_full = self, False
        self.weight_max = max(self.weight_max, replica.weight)
        _append(self.open, replica)

    def remove(self, replica: Replica) -> None:
        _take(self.full if replica.is_full else self.open, replica)
        replica.group, replica.is_full = None, False

    def has_room(self, replica: Replica) -> None:
        _take(self.full, replica)
        replica.is_full = False
        _append(self.open, replica)

    def set_aside(self, replica: Replica) -> None:
        _take(self.open, replica)
        replica.is_full = True
        _append(self.full, replica)

    def able(self, want: Want) -> list[Replica]:
        """All that can take it, of a group that is small enough to be looked through."""
        able = [replica for replica in self.open if fits(replica, want)]
        if self.full and (want.anyway or want.presses):
            able += [replica for replica in self.full if fits(replica, want)]
        return able

    def draw(self, rng: Random, want: Want) -> Replica | None:
        """One at random that can take it."""
        standing = self.open
        for _ in range(TRIES):
            count = len(standing)
            if not count:
                break
            replica = standing[int(rng.random() * count)]
            if fits(replica, want):
                return replica
            if replica.used >= replica.limit and not want.anyway:
                self.set_aside(replica)
        found = self._look(rng, standing, want)
        return self._look(rng, self.full, want) if found is None and (want.anyway or want.presses) else found

    def _look(self, rng: Random, standing: list[Replica], want: Want) -> Replica | None:
        count = len(standing)
        start = int(rng.random() * count)
        for step in range(min(count, LOOKS_MAX)):
            replica = standing[(start + step) % count]
            if fits(replica, want):
                return replica
        return None


def _append(standing: list[Replica], replica: Replica) -> None:
    replica.at = len(standing)
    standing.append(replica)


def _take(standing: list[Replica], replica: Replica) -> None:
    last = standing.pop()
    if last is not replica:
        standing[replica.at] = last
        last.at = replica.at
