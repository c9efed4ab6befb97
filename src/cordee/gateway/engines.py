"""What the engines of this gateway's workers have counted, as they say themselves: lines of the page at /metrics.

The counts are the workers', of all that all gateways have asked: sums over gateways mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cordee.domain.replica import EngineFigures


def collect(figures: Mapping[str, EngineFigures]) -> Iterable[Metric]:
    """`figures`: by replica."""
    prompts = CounterMetricFamily(
        "cordee_engine_prompt_tokens", "Tokens of prompts, by where they came from.", labels=["replica", "source"]
    )
    preemptions = CounterMetricFamily(
        "cordee_engine_preemptions",
        "Sequences that made room for a higher class, by what became of what was computed of them.",
        labels=["replica", "way"],
    )
    parked = GaugeMetricFamily("cordee_engine_parked", "Sequences that wait to go on.", labels=["replica"])
    aborted = CounterMetricFamily(
        "cordee_engine_aborted_steps", "Steps that took too long and were undone.", labels=["replica"]
    )
    outside = GaugeMetricFamily(
        "cordee_engine_outside_ratio", "Share of the time of steps that the kernels did not have.", labels=["replica"]
    )
    for replica, found in figures.items():
        prompts.add_metric([replica, "cached"], found.cached_tokens)
        prompts.add_metric([replica, "computed"], max(0, found.prompt_tokens - found.cached_tokens))
        for way, count in (("keep", found.kept), ("save", found.saved), ("recompute", found.recomputed)):
            preemptions.add_metric([replica, way], count)
        parked.add_metric([replica], found.parked)
        aborted.add_metric([replica], found.aborted)
        outside.add_metric([replica], found.outside_share)
    yield from (prompts, preemptions, parked, aborted, outside)
