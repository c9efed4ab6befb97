from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.degrade import DegradeRules, Ladder, Step

RULES = DegradeRules((1.0, 2.0, 4.0, 15.0, 25.0), climb_s=1.0, dwell_s=5.0)
LOOK_S = 0.25


def at(ladder: Ladder) -> Step:
    """Read anew: it changes between two looks."""
    return ladder.step


def run(
    ladder: Ladder, start: float, seconds: float, wait_s: float, used: float = 0.5, urgent_s: float | None = None
) -> tuple[float, list[Step]]:
    steps = []
    for look in range(int(seconds / LOOK_S)):
        steps.append(ladder.note(start + look * LOOK_S, wait_s, wait_s if urgent_s is None else urgent_s, used))
    return start + seconds, steps


def test_it_goes_up_one_step_at_a_time_to_where_the_wait_is():
    ladder = Ladder(RULES)
    _, steps = run(ladder, 0.0, 20, wait_s=5.0)
    assert steps == sorted(steps)
    assert set(steps) == {Step.NORMAL, Step.HEDGING_OFF, Step.BATCH_HELD, Step.CAPPED}


def test_a_short_burst_changes_nothing():
    ladder = Ladder(RULES)
    run(ladder, 0.0, 0.75, wait_s=30.0)
    _, steps = run(ladder, 0.75, 1, wait_s=0.0)
    assert set(steps) == {Step.NORMAL}


def test_it_goes_down_only_after_a_while_well_below():
    ladder = Ladder(RULES)
    now, _ = run(ladder, 0.0, 10, wait_s=2.5)
    assert at(ladder) is Step.BATCH_HELD
    now, _ = run(ladder, now, 60, wait_s=1.5)
    assert at(ladder) is Step.BATCH_HELD, "between half of the threshold and all of it nothing changes"
    now, _ = run(ladder, now, 4.5, wait_s=0.2)
    assert at(ladder) is Step.BATCH_HELD
    run(ladder, now, 12, wait_s=0.2)
    assert at(ladder) is Step.NORMAL


def test_nobody_is_refused_outright_while_interactive_calls_get_through():
    ladder = Ladder(RULES)
    run(ladder, 0.0, 60, wait_s=100.0, urgent_s=0.1)
    assert at(ladder) is Step.CAPPED


def test_full_seats_alone_switch_hedging_off_and_nothing_else():
    ladder = Ladder(RULES)
    now, _ = run(ladder, 0.0, 30, wait_s=0.0, used=1.0)
    assert at(ladder) is Step.HEDGING_OFF
    run(ladder, now, 30, wait_s=0.0, used=0.4)
    assert at(ladder) is Step.NORMAL


def test_it_refuses_last_and_comes_back():
    ladder = Ladder(RULES)
    now, _ = run(ladder, 0.0, 20, wait_s=100.0, used=1.0)
    assert at(ladder) is Step.REFUSE
    run(ladder, now, 60, wait_s=0.0, used=0.0)
    assert at(ladder) is Step.NORMAL
    assert ladder.changes == 10


@given(st.lists(st.tuples(st.floats(0, 40), st.floats(0, 1)), max_size=200))
def test_whatever_the_signals_steps_are_neighbours_and_keep_their_time(signals):
    ladder, before, changed_s = Ladder(RULES), Step.NORMAL, -100.0
    for look, (wait_s, used) in enumerate(signals):
        now = look * LOOK_S
        step = ladder.note(now, wait_s, wait_s, used)
        assert abs(step - before) <= 1
        if step < before:
            assert now - changed_s >= RULES.dwell_s
        if step != before:
            assert now - changed_s >= RULES.climb_s
            changed_s = now
        before = step
