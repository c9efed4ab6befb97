"""When the house is full: every edge of every band, and nothing that switches back and forth inside one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.overflow import Mode, Overflow, OverflowRules, Readings, Signal, mode

QUIET = {"cpu": 10.0, "memory": 10.0, "gpu": 10.0, "response": 0.1, "errors": 0.0}
ALERT = {"cpu": 80.0, "memory": 85.0, "gpu": 90.0, "errors": 5.0}
NORMAL = {"cpu": 70.0, "memory": 75.0, "gpu": 80.0, "response": 1.0, "errors": 1.0}
STEP = 0.01


def readings(**changed: float | None) -> Readings:
    return Readings(**{**QUIET, **changed})


def on() -> Overflow:
    overflow = Overflow(OverflowRules())
    assert overflow.note(readings(cpu=95.0))
    assert overflow.is_on
    return overflow


@pytest.mark.parametrize("name", ALERT)
def test_each_signal_diverts_from_its_alert_value_on(name):
    overflow = Overflow(OverflowRules())
    assert not overflow.note(readings(**{name: ALERT[name] - STEP}))
    assert not overflow.is_on
    assert overflow.note(readings(**{name: ALERT[name]}))
    assert overflow.is_on


@pytest.mark.parametrize("name", NORMAL)
def test_it_ends_only_when_every_signal_is_under_its_normal_value(name):
    overflow = on()
    assert not overflow.note(readings(**{name: NORMAL[name]}))
    assert overflow.is_on
    assert overflow.note(readings(**{name: NORMAL[name] - STEP}))
    assert not overflow.is_on


def test_a_long_response_time_alone_alerts_and_diverts_nobody():
    overflow = Overflow(OverflowRules())
    overflow.note(readings(response=2.0))
    assert overflow.alerts == {Signal.RESPONSE}
    assert not overflow.is_on


def test_a_long_response_time_beside_another_signal_counts():
    overflow = Overflow(OverflowRules())
    overflow.note(readings(response=2.0, errors=5.0))
    assert overflow.is_on
    assert overflow.alerts == {Signal.RESPONSE, Signal.ERRORS}
    overflow.note(readings(response=1.5))
    assert overflow.is_on


@pytest.mark.parametrize("name", QUIET)
def test_a_signal_nobody_measures_neither_begins_nor_keeps_it(name):
    overflow = on()
    overflow.note(readings(**{name: None}))
    assert not overflow.is_on


@given(st.lists(st.floats(70.0, 79.99), min_size=1, max_size=50), st.booleans())
def test_inside_the_band_nothing_changes(values, begins_on):
    overflow = on() if begins_on else Overflow(OverflowRules())
    assert not any(overflow.note(readings(cpu=value)) for value in values)
    assert overflow.is_on is begins_on


@given(
    st.lists(
        st.builds(
            Readings,
            *(st.none() | st.floats(0, 100) for _ in range(3)),
            st.none() | st.floats(0, 10),
            st.none() | st.floats(0, 100),
        ),
        max_size=60,
    )
)
def test_it_begins_only_with_an_alert_and_ends_only_with_all_back(seen):
    overflow, rules = Overflow(OverflowRules()), OverflowRules()
    for each in seen:
        before = overflow.is_on
        overflow.note(each)
        values = [(signal, each.of(signal)) for signal in Signal]
        if overflow.is_on and not before:
            assert any(v is not None and v >= rules.bands.of(s).alert for s, v in values if s is not Signal.RESPONSE)
        if before and not overflow.is_on:
            assert all(v is None or v < rules.bands.of(s).normal for s, v in values)


def test_with_nobody_in_the_house_the_door_is_open_whatever_the_signals_say():
    quiet = Overflow(OverflowRules())
    assert mode(quiet, has_local=False) is Mode.ALONE
    assert mode(quiet, has_local=True) is Mode.CLOSED
    assert mode(on(), has_local=True) is Mode.FULL
