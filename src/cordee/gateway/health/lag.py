"""How late this gateway's event loop is: a timer is set again and again, and what it is late by is counted.

Whatever computes on the loop makes every stream wait, and none of them can tell why; this is where it shows. A block of a
given length is met with the probability length / LOOK_S, so the histogram is that of the delay a token would meet which comes
at any moment.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import HistogramMetricFamily, Metric

from cordee.gateway.metrics import Histogram
from cordee.ports import Clock

LOOK_S = 0.1
BOUNDS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


class Lag:
    """Counts from `start` on, for as long as the process lives."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due_s = 0.0
        self._late = Histogram(BOUNDS_S)

    def start(self) -> None:
        self._due_s = self._clock.now() + LOOK_S
        self._clock.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        # Timers count in whole milliseconds from the beginning of a turn of the loop, so one may also come early.
        self._late.note(max(0.0, self._clock.now() - self._due_s))
        self.start()

    def metrics(self) -> Iterable[Metric]:
        family = HistogramMetricFamily("cordee_loop_lag_seconds", "What the event loop's timers are late by.")
        family.add_metric([], self._late.buckets(), self._late.total)
        yield family
