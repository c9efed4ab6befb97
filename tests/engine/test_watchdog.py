from __future__ import annotations

from cordee.engine.watchdog import Watchdog


class Step:
    began_s = 0.0


class Bench:
    def __init__(self) -> None:
        self.step, self.time, self.aborts = Step(), 100.0, 0
        self.lost: list[str] = []
        self.dog = Watchdog(self.step, 10.0, lambda: self.time, self.abort, self.lost.append)

    def abort(self) -> None:
        self.aborts += 1

    def after(self, seconds: float) -> None:
        self.time += seconds
        self.dog.look()


def test_a_step_that_takes_too_long_is_stopped_once():
    bench = Bench()
    bench.step.began_s = 100.0
    bench.after(9.0)
    assert bench.aborts == 0
    bench.after(1.0)
    bench.after(1.0)
    assert bench.aborts == bench.dog.aborted == 1
    assert bench.lost == []


def test_each_step_is_judged_for_itself():
    bench = Bench()
    for _ in range(3):
        bench.step.began_s = bench.time
        bench.after(11.0)
    assert bench.aborts == 3
    assert bench.lost == []


def test_an_engine_that_rests_is_left_alone():
    bench = Bench()
    bench.after(1000.0)
    assert bench.aborts == 0


def test_a_step_that_does_not_come_back_at_all_loses_the_engine():
    bench = Bench()
    bench.step.began_s = 100.0
    bench.after(11.0)
    bench.after(10.0)
    bench.after(10.0)
    assert len(bench.lost) == 1
    assert "raise engine.step_s_max" in bench.lost[0]
    assert bench.dog.is_lost
