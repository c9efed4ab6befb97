"""Decides without looking at load: by turns, or at random in proportion to weights.

A replica of less than full health is passed over now and then, so that slow start and the weight of an outlier hold here too.
Weighted choice draws at random and keeps the draw with a probability that follows the weight (rejection sampling): it needs no
state that several gateways would have to share, and costs the same among any number of replicas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cordee.policy.candidates import SCAN_MAX, Candidates
from cordee.policy.fit import fits
from cordee.policy.replica import Replica, Want
from cordee.policy.strategy import EVERYONE, Ungrouped

if TYPE_CHECKING:
    from random import Random

DRAWS = 16  # that may be rejected before the last one is taken whatever its weight


class RoundRobin(Ungrouped):
    """The next one that can take it."""

    __slots__ = ("_at",)

    def __init__(self) -> None:
        self._at = 0

    def pick(self, rng: Random, groups: Mapping[str, Candidates], want: Want, *, alone: bool) -> Replica | None:
        candidates = groups[EVERYONE]
        standing = candidates.open
        passed_over: Replica | None = None
        for _ in range(min(len(standing), SCAN_MAX)):
            self._at = (self._at + 1) % len(standing)
            replica = standing[self._at]
            if fits(replica, want):
                if replica.health >= 1 or rng.random() < replica.health:
                    return replica
                passed_over = passed_over or replica
        return passed_over or candidates.draw(rng, want)


class Weighted(Ungrouped):
    """At random, in proportion to the weights of the configuration times health."""

    __slots__ = ()

    def pick(self, rng: Random, groups: Mapping[str, Candidates], want: Want, *, alone: bool) -> Replica | None:
        candidates = groups[EVERYONE]
        if len(candidates.open) <= SCAN_MAX:
            return _by_share(rng, candidates.able(want))
        drawn: Replica | None = None
        for _ in range(DRAWS):
            drawn = candidates.draw(rng, want)
            if drawn is None or rng.random() * candidates.weight_max < drawn.weight * drawn.health:
                break
        return drawn


def _by_share(rng: Random, able: list[Replica]) -> Replica | None:
    left = rng.random() * sum(replica.weight * replica.health for replica in able)
    for replica in able:
        left -= replica.weight * replica.health
        if left <= 0:
            return replica
    return able[-1] if able else None  # rounding has left a little over
