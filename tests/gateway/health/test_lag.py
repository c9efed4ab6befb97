"""What the event loop is late by is counted, by a clock that the test moves."""

from __future__ import annotations

from collections.abc import Callable

from cordee.gateway.health.lag import BOUNDS_S, LOOK_S, Lag
from cordee.ports import Timer


class Never:
    """A timer that is never cancelled."""

    def cancel(self) -> None:
        raise AssertionError("nobody ends the watch")


class Blocked:
    """A clock whose timers come as late as the test says."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.next: tuple[float, Callable[[], None]] = (0.0, lambda: None)

    def now(self) -> float:
        return self.now_s

    def call_later(self, delay_s: float, what: Callable[[], None]) -> Timer:
        self.next = (self.now_s + delay_s, what)
        return Never()

    def pass_by(self, late_s: float) -> None:
        due_s, what = self.next
        self.now_s = due_s + late_s
        what()


def test_each_timer_is_counted_by_what_it_was_late() -> None:
    clock = Blocked()
    lag = Lag(clock)
    lag.start()
    for late_s in (0.0, 0.0, 0.004, 0.15, -0.0005):
        clock.pass_by(late_s)
    (family,) = lag.metrics()
    counts = {sample.labels["le"]: sample.value for sample in family.samples if sample.name.endswith("_bucket")}
    assert counts["0.001"] == 3
    assert counts["0.005"] == 4
    assert counts["0.1"] == 4
    assert counts["0.2"] == 5 == counts["+Inf"]
    total = next(sample.value for sample in family.samples if sample.name.endswith("_sum"))
    assert abs(total - 0.154) < 1e-9


def test_the_bounds_tell_what_is_asked_for() -> None:
    assert 0.02 in BOUNDS_S  # 99 of 100 are to be within
    assert LOOK_S <= 0.1
