"""What is recommended follows from what was measured, and from nothing else."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cordee.policy import tuning
from cordee.policy.tuning import Figures, Trial

NOW = Trial(threads=4, ubatch=128, slots=16, prefill_tokens_max=256)


def threads(quiet: dict[int, float], busy: dict[int, float]) -> int:
    measured = [
        (replace(NOW, threads=n, neighbour=beside), Figures(written=speed))
        for beside, speeds in ((False, quiet), (True, busy))
        for n, speed in speeds.items()
    ]
    return tuning.best_threads(NOW, measured).threads


def test_threads_that_crawl_beside_a_neighbour_are_not_worth_their_speed_in_quiet() -> None:
    assert threads({1: 100, 3: 250, 4: 300}, {1: 90, 3: 220, 4: 50}) == 3


def test_what_is_set_stays_where_nothing_is_clearly_better() -> None:
    assert threads({2: 102, 4: 100}, {2: 102, 4: 100}) == 4
    measured = [(replace(NOW, ubatch=n), Figures(read=read)) for n, read in ((64, 90.0), (128, 100.0), (256, 104.0))]
    assert tuning.best_ubatch(NOW, measured).ubatch == 128


def test_slots_are_as_many_as_pay_while_tokens_follow_each_other_fast_enough() -> None:
    measured = [
        (replace(NOW, slots=n), Figures(written=speed, gap_s=gap_s))
        for n, speed, gap_s in ((1, 100, 0.01), (4, 200, 0.02), (16, 400, 0.04), (32, 410, 0.08), (64, 600, 0.3))
    ]
    assert tuning.best_slots(NOW, measured).slots == 16


def test_a_slow_machine_may_be_slow_but_not_at_any_price() -> None:
    measured = [
        (replace(NOW, slots=n), Figures(written=speed, gap_s=gap_s))
        for n, speed, gap_s in ((1, 1, 1), (4, 3, 1.5), (16, 5, 4))
    ]
    assert tuning.best_slots(NOW, measured).slots == 4


def test_a_new_call_is_answered_as_soon_as_the_others_let_it() -> None:
    measured = [
        (replace(NOW, prefill_tokens_max=n), Figures(gap_s=gap_s, first_s=first_s))
        for n, gap_s, first_s in ((64, 0.05, 2.0), (128, 0.1, 1.0), (256, 0.3, 0.5))
    ]
    assert tuning.best_prefill(NOW, measured).prefill_tokens_max == 128


@given(st.integers(1, 64), st.integers(1, 256), st.integers(1, 256))
def test_every_trial_is_one_that_the_machine_has_room_for(processors: int, now: int, most: int) -> None:
    start = replace(NOW, threads=now, slots=min(now, most))
    assert all(1 <= trial.threads <= processors for trial in tuning.thread_trials(start, processors))
    assert all(1 <= trial.slots <= most for trial in tuning.slot_trials(start, most))
    assert start in tuning.slot_trials(start, most)
