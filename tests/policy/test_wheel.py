from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.wheel import Wheel

TICKS = st.sampled_from([0.001, 0.01, 0.02, 0.1, 0.25, 1.0])
TIMES = st.floats(0, 1000)
ROUNDING = 1e-9


@given(TICKS, st.lists(TIMES, max_size=50))
def test_a_wait_is_never_early_and_at_most_one_tick_late(tick_s, times):
    wheel: Wheel[int] = Wheel(tick_s)
    for key, at in enumerate(times):
        wheel.arm(at, key)
    seen = []
    while (now := wheel.next_due()) is not None:
        due = wheel.due(now)
        assert due, "asking at the time that was named gives something"
        seen += due
        for key in due:
            assert times[key] <= now + ROUNDING
            assert now <= times[key] + tick_s + ROUNDING
    assert sorted(seen) == list(range(len(times)))


@given(TICKS, st.lists(TIMES, max_size=50), st.lists(TIMES, max_size=20))
def test_every_key_comes_once_and_the_earliest_first(tick_s, times, asks):
    wheel: Wheel[int] = Wheel(tick_s)
    for key, at in enumerate(times):
        wheel.arm(at, key)
    seen = []
    for now in [*sorted(asks), 2000.0]:
        due = wheel.due(now)
        ticks = [int(times[key] / tick_s) for key in due]
        assert ticks == sorted(ticks)
        assert all(times[key] <= now + ROUNDING for key in due)
        seen += due
    assert sorted(seen) == list(range(len(times)))


@given(st.lists(st.tuples(TIMES, st.booleans()), max_size=50))
def test_what_is_disarmed_never_comes(waits):
    wheel: Wheel[int] = Wheel(0.02)
    slots = [wheel.arm(at, key) for key, (at, _) in enumerate(waits)]
    kept = [key for key, (_, is_kept) in enumerate(waits) if is_kept]
    for key, (_, is_kept) in enumerate(waits):
        if not is_kept:
            wheel.disarm(slots[key], key)
    if not kept:
        assert wheel.next_due() is None
    assert sorted(wheel.due(2000.0)) == kept


def test_an_empty_wheel_has_nothing_to_ask_for():
    wheel: Wheel[str] = Wheel(0.02)
    assert wheel.next_due() is None
    assert wheel.due(1e9) == []


def test_disarming_twice_or_after_the_end_is_harmless():
    wheel: Wheel[str] = Wheel(0.02)
    slot = wheel.arm(1.0, "a")
    assert wheel.due(2.0) == ["a"]
    wheel.disarm(slot, "a")
    wheel.disarm(slot, "a")


@given(st.lists(TIMES, max_size=50))
def test_a_wheel_from_which_all_were_disarmed_holds_nothing(times):
    wheel: Wheel[int] = Wheel(0.02)
    for slot, key in [(wheel.arm(at, key), key) for key, at in enumerate(times)]:
        wheel.disarm(slot, key)
    assert not wheel._slots


@given(TICKS, st.floats(0, 1e7), st.floats(0, 1e7))
def test_what_is_armed_for_a_time_that_is_over_comes_with_the_next_tick(tick_s, asked, at):
    wheel: Wheel[str] = Wheel(tick_s)
    wheel.due(asked)
    wheel.arm(min(asked, at), "a")
    assert wheel.due(asked + 2 * tick_s) == ["a"]
