"""Decides by the beginning of the prompt, so that a replica meets again what it has in its cache.

Rendezvous hashing (Thaler & Ravishankar, 1998) over the members of the pool gives every gateway the same answer without shared
state, and moves only the calls of a replica that left. The load is bounded (Mirrokni, Thorup & Zadimoghaddam, 2016): a replica
that would come to lie more than a given factor above the mean passes the call to the next in the ranking.

A ranking over ten thousand members is too dear for a call, so it is kept for a fixed number of buckets of calls, and changed when
a member joins or leaves, whether it may be asked just then or not: a short absence moves nobody else's calls.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING

from cordee.policy.candidates import SCAN_MAX, Candidates
from cordee.policy.fit import fits
from cordee.policy.least import least_load
from cordee.policy.replica import Replica, Want
from cordee.policy.strategy import EVERYONE, RouteRules, Ungrouped

if TYPE_CHECKING:
    from random import Random

BUCKETS = 1024  # of calls; a power of two
RANKED = 8  # members kept in each bucket's ranking, so that some are there while others are away
PASSED_MAX = 2  # of them that are too loaded: then load alone decides, a cold cache more does not matter
SAMPLE_EVERY = 4  # decisions, one member of a large group is looked at
SAMPLE_WEIGHT = 1 / 16  # of it in the mean: about the last thirty make it
MASK = (1 << 64) - 1

Ranking = list[tuple[int, str, Replica]]  # best first; the id orders equal hashes, so that replicas are never compared


class PrefixAffinity(Ungrouped):
    """Where calls of one prefix go together."""

    __slots__ = ("_members", "_rankings", "_rules", "_turn", "_utilisation")

    def __init__(self, rules: RouteRules) -> None:
        self._rules = rules
        self._utilisation = 0.0  # of a large group, as the last samples showed it
        self._turn = 0
        self._members: dict[Replica, int] = {}
        self._rankings: list[Ranking] = [[] for _ in range(BUCKETS)]

    def joined(self, replica: Replica) -> None:
        seed = self._members[replica] = replica.seed
        for bucket, ranking in enumerate(self._rankings):
            row = (_mixed(seed ^ bucket), replica.id, replica)
            if len(ranking) < RANKED or row < ranking[-1]:
                insort(ranking, row)
                del ranking[RANKED:]

    def left(self, replica: Replica) -> None:
        self._members.pop(replica, None)
        for bucket, ranking in enumerate(self._rankings):
            if any(member is replica for _, _, member in ranking):
                rows = sorted((_mixed(seed ^ bucket), member.id, member) for member, seed in self._members.items())
                self._rankings[bucket] = rows[:RANKED]

    def pick(self, rng: Random, groups: Mapping[str, Candidates], want: Want, *, alone: bool) -> Replica | None:
        candidates = groups[EVERYONE]
        if want.affinity:
            sequences, passed = want.size.sequences, 0
            utilisation = self._mean(rng, candidates)
            for _, _, replica in self._rankings[_mixed(want.affinity) % BUCKETS]:
                if replica.group is None:
                    continue
                bound = self._rules.affinity_bound * (utilisation * replica.limit + sequences) * replica.health
                if replica.used + sequences <= ceil(bound) and fits(replica, want):
                    return replica
                passed += 1
                if passed == PASSED_MAX:
                    break
        return least_load(rng, candidates, want, alone=alone)

    def _mean(self, rng: Random, candidates: Candidates) -> float:
        """Sequences there over sequences that fit: of all in a small group; in a large one a few are looked at each time."""
        standing, full = candidates.open, candidates.full
        count = len(standing) + len(full)
        if count <= SCAN_MAX:
            used = limit = 0
            for replica in standing:
                used += replica.used
                limit += replica.limit
            return used / limit if limit else 0.0
        self._turn = (self._turn + 1) % SAMPLE_EVERY
        if not self._turn:
            at = int(rng.random() * count)
            replica = standing[at] if at < len(standing) else full[at - len(standing)]
            self._utilisation += (replica.used / replica.limit - self._utilisation) * SAMPLE_WEIGHT
        return self._utilisation


def _mixed(value: int) -> int:
    """64 bits that depend on all bits of the value (the finaliser of splitmix64)."""
    value = (value + 0x9E3779B97F4A7C15) & MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)
