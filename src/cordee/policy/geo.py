"""Decides by nearness: the caller's own region first, the others in the configured order, and a region is left for the next one
while the better of its replicas would be loaded above a limit. Above it everywhere, the least loaded of all that were looked at
takes it: far away is better than not at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from cordee.policy.candidates import Candidates
from cordee.policy.least import least_load
from cordee.policy.replica import Replica, Want
from cordee.policy.strategy import RouteRules

if TYPE_CHECKING:
    from random import Random


class Geo:
    """A caller or a replica without a region is near to nobody and far from nobody: its group has its turn after those named."""

    __slots__ = ("_rules",)

    def __init__(self, rules: RouteRules) -> None:
        self._rules = rules

    def group_of(self, replica: Replica) -> str:
        return replica.region

    def joined(self, replica: Replica) -> None: ...

    def left(self, replica: Replica) -> None: ...

    def pick(self, rng: Random, groups: Mapping[str, Candidates], want: Want, *, alone: bool) -> Replica | None:
        best: Replica | None = None
        best_load = 0.0
        for candidates in self._nearest(groups, want.region):
            found = least_load(rng, candidates, want, alone=alone)
            if found is None:
                continue
            load = _load(found, want)
            if load <= self._rules.spill_load:
                return found
            if best is None or load < best_load:
                best, best_load = found, load
        return best

    def _nearest(self, groups: Mapping[str, Candidates], region: str) -> Iterator[Candidates]:
        named = (region, *self._rules.regions.get(region, ()))
        for name in named:
            if name in groups:
                yield groups[name]
        for name, candidates in groups.items():
            if name not in named:
                yield candidates


def _load(replica: Replica, want: Want) -> float:
    """With this call, as a share of the capacity that is scarcer."""
    return max((replica.tokens + want.size.tokens) / replica.room, (replica.used + want.size.sequences) / replica.limit)
