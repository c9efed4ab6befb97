"""Decides by the least load, in tokens or in sequences.

With one gateway the exact minimum is best; with several, everybody's exact minimum over slightly old reports is the same
replica, so the better of two random ones is taken (Mitzenmacher, The Power of Two Choices, 2001; How Useful Is Old
Information?, 2000). Among many replicas two random ones are nearly as good as all of them, and cost the same whatever their number.

The score is the load that the replica would have with this call, over its capacity and weight: what it reported last, what this
gateway has sent it since, as much again for each other gateway, which does likewise, and the call itself, so that a weight counts
among idle replicas too.

Among equals calls that begin alike meet the same replica, in every gateway: what it has computed of their beginning is worth
more than chance. It is rendezvous hashing (Thaler & Ravishankar, 1998) of the few that are equal, so it moves nothing else when one leaves
and costs nothing where load differs. Calls of which nothing is known are spread at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cordee.policy.candidates import SCAN_MAX, Candidates
from cordee.policy.fit import is_plain
from cordee.policy.replica import Replica, Want
from cordee.policy.strategy import EVERYONE, Ungrouped

if TYPE_CHECKING:
    from random import Random

NOTHING = float("-inf")  # sequences to make room for where room was looked at already
MASK = (1 << 64) - 1


class LeastLoad(Ungrouped):
    """By tokens over capacity."""

    __slots__ = ()

    def pick(self, rng: Random, groups: Mapping[str, Candidates], want: Want, *, alone: bool) -> Replica | None:
        return least_load(rng, groups[EVERYONE], want, alone=alone)


class LeastConnections(Ungrouped):
    """By sequences, whatever their length and whatever the replicas can hold; only health weighs."""

    __slots__ = ()

    def pick(self, rng: Random, groups: Mapping[str, Candidates], want: Want, *, alone: bool) -> Replica | None:
        standing, needed = _looked_at(rng, groups[EVERYONE], want, alone=alone)
        return _fewest(rng, standing, needed, want.size.sequences, want.affinity)


def least_load(rng: Random, candidates: Candidates, want: Want, *, alone: bool) -> Replica | None:
    """Of one group."""
    standing, size = candidates.open, want.size
    if is_plain(want):
        needed, count = size.sequences, len(standing)
        if count <= SCAN_MAX and (alone or count <= 2):  # of exactly two, both candidates are always looked at
            return _least(rng, standing, needed, size.tokens, want.affinity)
        one, other = _two(rng, standing)
        if one.used + needed <= one.limit and other.used + needed <= other.limit:
            one_score = (one.tokens + one.surge + size.tokens) / one.room
            other_score = (other.tokens + other.surge + size.tokens) / other.room
            if one_score == other_score and want.affinity:
                if count <= SCAN_MAX and not (one.used or other.used):  # where two are idle, so may that one be
                    return _least(rng, standing, needed, size.tokens, want.affinity)
                return one if _nearer(one, other, want.affinity) else other
            return one if one_score <= other_score else other
    looked_at, still_needed = _looked_at(rng, candidates, want, alone=alone)
    return _least(rng, looked_at, still_needed, size.tokens, want.affinity)


def _looked_at(rng: Random, candidates: Candidates, want: Want, *, alone: bool) -> tuple[Sequence[Replica], float]:
    """Those among which the score decides, and how many sequences each must still have room for."""
    standing = candidates.open
    if len(standing) > SCAN_MAX or len(candidates.full) > SCAN_MAX:
        drawn = (candidates.draw(rng, want), candidates.draw(rng, want))
        return [replica for replica in drawn if replica is not None], NOTHING
    able: Sequence[Replica] = standing
    needed: float = want.size.sequences
    if not (is_plain(want) and alone):
        able, needed = candidates.able(want), NOTHING
    return (_two(rng, able) if not alone and len(able) > 2 else able), needed


def _two(rng: Random, standing: Sequence[Replica]) -> tuple[Replica, Replica]:
    count = len(standing)
    first = int(rng.random() * count)
    second = int(rng.random() * (count - 1))
    return standing[first], standing[second + (second >= first)]


def _nearer(one: Replica, other: Replica, affinity: int) -> bool:
    """Whether calls of this beginning rather meet the first one. The products of a value that is spread over 64 bits are spread anew by
    each factor (multiplicative hashing), and cost a tenth of a microsecond."""
    return (affinity * one.seed) & MASK > (affinity * other.seed) & MASK


def _least(rng: Random, standing: Sequence[Replica], needed: float, tokens: int, affinity: int) -> Replica | None:
    best: Replica | None = None
    best_score, equals = 0.0, 1
    for replica in standing:
        if replica.used + needed > replica.limit:
            continue
        score = (replica.tokens + replica.surge + tokens) / replica.room
        if best is None or score < best_score:
            best, best_score, equals = replica, score, 1
        elif score == best_score:
            equals += 1
            if _nearer(replica, best, affinity) if affinity else rng.random() * equals < 1:
                best = replica
    return best


def _fewest(rng: Random, standing: Sequence[Replica], needed: float, sequences: int, affinity: int) -> Replica | None:
    best: Replica | None = None
    best_score, equals = 0.0, 1
    for replica in standing:
        if replica.used + needed > replica.limit:
            continue
        score = (replica.used + sequences) / replica.health
        if best is None or score < best_score:
            best, best_score, equals = replica, score, 1
        elif score == best_score:
            equals += 1
            if _nearer(replica, best, affinity) if affinity else rng.random() * equals < 1:
                best = replica
    return best
