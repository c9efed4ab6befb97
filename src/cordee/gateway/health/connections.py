"""What there is to see of clients' connections: how many are open, and whether more could be let in."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cordee.http.server import Server


def connections(server: Server) -> Iterable[Metric]:
    """For gateway.metrics."""
    yield GaugeMetricFamily(
        "cordee_connections", "Connections of clients that are open.", value=len(server.connections)
    )
    yield CounterMetricFamily(
        "cordee_accept_pauses",
        "How often no connection could be accepted, for want of descriptors.",
        value=server.pauses,
    )
