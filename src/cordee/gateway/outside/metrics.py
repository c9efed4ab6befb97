"""What of the door out is to be seen in Prometheus's format."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cordee.gateway.outside.overflow import Outside
from cordee.policy.overflow import Signal


def families(outside: Outside) -> Iterable[Metric]:
    """Every family of the door out."""
    overflow = outside.overflow
    yield GaugeMetricFamily(
        "cordee_overflow_active", "1: what finds no seat here may leave.", value=int(overflow.is_on)
    )
    value = GaugeMetricFamily(
        "cordee_overflow_signal", "Smoothed: percent, or seconds to the first token.", labels=["signal"]
    )
    alert = GaugeMetricFamily("cordee_overflow_alert", "1: at its alert value or above.", labels=["signal"])
    for signal in Signal:
        reading = outside.readings.of(signal)
        if reading is not None:
            value.add_metric([signal.value], reading)
        alert.add_metric([signal.value], int(signal in overflow.alerts))
    calls = CounterMetricFamily("cordee_cloud_calls", "Calls that a provider ended.", labels=["cloud", "outcome"])
    for (cloud, end), count in outside.calls.items():
        calls.add_metric([cloud, end], count)
    spend = CounterMetricFamily("cordee_cloud_spend", "Money.", labels=["cloud", "currency"])
    for cloud, money in outside.spent.items():
        spend.add_metric([cloud, outside.currency], money)
    yield from (value, alert, calls, spend)
    left = outside.spend.left(outside.spend.day)
    if left is not None:
        family = GaugeMetricFamily(
            "cordee_cloud_budget_left", "Of this gateway's share of today's money.", labels=["currency"]
        )
        family.add_metric([outside.currency], left)
        yield family
    ready = GaugeMetricFamily("cordee_cloud_ready", "1: may be asked.", labels=["cloud"])
    busy = GaugeMetricFamily("cordee_cloud_sequences", "This gateway's sequences there.", labels=["cloud"])
    for lane in outside.lanes:
        ready.add_metric([lane.cloud.id], int(lane.replica.ready and lane.replica.breaker.is_closed))
        busy.add_metric([lane.cloud.id], lane.replica.used)
    yield from (ready, busy)
