"""Silence is held against a process only while its listener was awake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.silence import LOOK_S_MAX, LOOKS_MIN, SILENT_S, Hearing, Silence


def looks(silence: Silence, *at_s: float) -> list[Hearing]:
    return [silence.look(at) for at in at_s]


def test_who_speaks_is_well_and_who_misses_reports_is_silent():
    silence = Silence(0.0)
    silence.heard(10.0)
    assert looks(silence, 11.0, 12.0, 13.0, 13.5) == [Hearing.WELL] * 3 + [Hearing.SILENT]
    silence.heard(13.6)
    assert silence.look(14.0) is Hearing.WELL


def test_patience_ends_and_without_an_end_it_lasts():
    patient, endless = Silence(30.0), Silence(0.0)
    found = [(patient.look(float(now)), endless.look(float(now))) for now in range(1, 100)]
    assert next(number for number, (hearing, _) in enumerate(found, 1) if hearing is Hearing.LOST) == 30
    assert all(hearing is not Hearing.LOST for _, hearing in found)


@pytest.mark.parametrize("patience_s", [SILENT_S + 0.1, 5.0, 30.0, 3600.0])
@pytest.mark.parametrize("slept_s", [60.0, 86_400.0])
def test_a_listener_that_slept_ends_nobody_when_it_wakes(patience_s, slept_s):
    silence = Silence(patience_s)
    for now in (0.5, 1.0):
        silence.heard(now)
        silence.look(now)
    assert silence.look(1.0 + slept_s) is not Hearing.LOST


@given(
    st.floats(min_value=SILENT_S + 0.1, max_value=100.0),
    st.lists(st.floats(min_value=0.01, max_value=1000.0), min_size=1, max_size=50),
)
def test_nobody_is_lost_before_its_patience_is_over_nor_by_one_look(patience_s, gaps):
    silence, now = Silence(patience_s), 0.0
    for number, gap in enumerate(gaps, 1):
        now += gap
        if silence.look(now) is Hearing.LOST:
            assert now >= patience_s * (1 - 1e-9)
            assert number >= LOOKS_MIN
        assert silence.silent_s <= number * LOOK_S_MAX
