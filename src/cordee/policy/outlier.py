"""Decides who stands out in a pool: slower than its equals, or worse.

A replica is compared with the median of its pool, in the time to the first token, in the time from token to token and in the share
of its attempts that fail. From `factor` times the median on its weight falls with the excess; from the square of that on, or when
half of its attempts fail, it is left out for a while. That is outlier detection as Envoy has it, but the weight falls first: a
replica that is slow still serves, and what it shows while it does is how its recovery is seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cordee.domain.record import record
from cordee.policy.pace import SEEN_MIN, Pace
from cordee.policy.replica import HEALTH_MIN, Replica

FIRST_FLOOR_S, TOKEN_FLOOR_S = 0.005, 0.001  # added to both sides: among times this short a multiple says nothing
FAULTS_MIN = 0.1  # share of attempts; fewer are the retry budget's business
FAULTS_EXTREME = 0.5
ENDS_MIN = 10  # of attempts, before the share that failed is believed


@dataclass(frozen=True, slots=True)
class OutlierRules:
    """`factor` times the pool's median is where a replica stands out; news older than `window_s` are forgotten, and that long an
    extreme one is left out; judged every `judge_s`."""

    factor: float = 3.0
    window_s: float = 10.0
    judge_s: float = 0.25


@record
class Medians:
    """Of a pool, over those of which enough is known; None where that is fewer than two. With two the better one counts."""

    first_s: float | None
    token_s: float | None
    faults: float | None


def medians(replicas: Iterable[Replica]) -> Medians:
    paces = [replica.pace for replica in replicas]
    return Medians(
        _median([pace.first_s for pace in paces if pace.firsts >= SEEN_MIN]),
        _median([pace.token_s for pace in paces if pace.tokens >= SEEN_MIN]),
        _median([pace.faults for pace in paces if pace.ends >= ENDS_MIN]),
    )


def verdict(pace: Pace, pool: Medians, rules: OutlierRules) -> float:
    """The weight of a replica: 1 where it does as the others do, 0 where it should not be asked."""
    slow = 1.0
    if pool.first_s is not None and pace.firsts >= SEEN_MIN:
        slow = (pace.first_s + FIRST_FLOOR_S) / (pool.first_s + FIRST_FLOOR_S)
    if pool.token_s is not None and pace.tokens >= SEEN_MIN:
        slow = max(slow, (pace.token_s + TOKEN_FLOOR_S) / (pool.token_s + TOKEN_FLOOR_S))
    if slow >= rules.factor**2:
        return 0.0
    weight = 1 / slow if slow >= rules.factor else 1.0
    if pool.faults is not None and pace.ends >= ENDS_MIN and pace.faults >= max(FAULTS_MIN, rules.factor * pool.faults):
        if pace.faults >= FAULTS_EXTREME:
            return 0.0
        weight *= 1 - pace.faults / FAULTS_EXTREME
    return max(HEALTH_MIN, weight)


def _median(values: Sequence[float]) -> float | None:
    return sorted(values)[(len(values) - 1) // 2] if len(values) > 1 else None
