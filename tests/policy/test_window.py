"""The last seconds, and nothing older."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.window import SLICES, Window


def test_shares_and_means_of_what_is_in_it():
    window = Window(10.0)
    window.note(100.0, failed=False, first_s=1.0)
    window.note(101.0, failed=True, first_s=None)
    window.note(102.0, failed=False, first_s=3.0)
    assert window.calls(102.0) == 3
    assert window.failed_share(102.0) == pytest.approx(1 / 3)
    assert window.first_token_s(102.0) == pytest.approx(2.0)


def test_an_empty_one_knows_nothing():
    window = Window(10.0)
    assert window.failed_share(5.0) is None
    assert window.first_token_s(5.0) is None
    window.note(6.0, failed=True, first_s=None)
    assert window.failed_share(1000.0) is None


@given(st.lists(st.floats(0, 20), max_size=60))
def test_it_holds_what_is_younger_than_its_length_up_to_one_slice(gaps):
    window, now, times = Window(10.0), 50.0, []
    for gap in gaps:
        now += gap
        window.note(now, failed=False, first_s=None)
        times.append(now)
        slice_s = 10.0 / SLICES
        assert window.calls(now) <= sum(now - at <= 10.0 + 1e-6 for at in times)
        assert window.calls(now) >= sum(now - at <= 10.0 - slice_s - 1e-6 for at in times)
