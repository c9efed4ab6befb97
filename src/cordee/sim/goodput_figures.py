"""What runs of sim.goodput come to, in figures."""

from __future__ import annotations

import math
from dataclasses import dataclass

from cordee.domain.call import Priority
from cordee.sim.goodput import Seen, Storm


@dataclass(frozen=True, slots=True)
class Figures:
    """What one window of a run comes to. Waits in seconds; shares of one."""

    goodput: float
    refused_p99_s: float
    wait_p50_s: float
    wait_p99_s: float
    queue_p99_s: float
    interactive_success: float
    interactive_p99_s: float
    asks: int
    served: int


def figures(storm: Storm, seen: Seen, start_s: float, end_s: float) -> Figures:
    """Of the calls that arrived, and the tokens that left, between two times."""
    tokens = sum(tokens for at, tokens in seen.ended if start_s <= at < end_s)
    most = storm.capacity * storm.answer_tokens * (end_s - start_s)
    served = [one for one in seen.served if start_s <= one.arrived_s < end_s]
    high = [one.wait_s for one in served if one.priority is Priority.INTERACTIVE]
    lost = sum(start_s <= at < end_s and priority is Priority.INTERACTIVE for at, priority in seen.lost)
    refused = [after for at, after in seen.refused if start_s <= at < end_s]
    return Figures(
        goodput=tokens / most,
        refused_p99_s=percentile(refused, 0.99),
        wait_p50_s=percentile([one.wait_s for one in served], 0.5),
        wait_p99_s=percentile([one.wait_s for one in served], 0.99),
        queue_p99_s=percentile([one.queue_s for one in served], 0.99),
        interactive_success=len(high) / (len(high) + lost) if high else math.nan,
        interactive_p99_s=percentile(high, 0.99),
        asks=seen.asks,
        served=len(served),
    )


def recovery_s(seen: Seen, from_s: float, normal_s: float) -> float:
    """How long after `from_s` the last call arrived that waited longer than `normal_s`; 0: none did."""
    late = (one.arrived_s - from_s for one in seen.served if one.arrived_s > from_s and one.wait_s > normal_s)
    return max(late, default=0.0)


def responses_s(storm: Storm, seen: Seen, start_s: float) -> list[float]:
    """From arrival to the end, of every tenant's calls but those of the one that floods."""
    mine = (one for one in seen.served if one.tenant and one.arrived_s >= start_s)
    return [one.wait_s + one.tokens * storm.token_s for one in mine]


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
