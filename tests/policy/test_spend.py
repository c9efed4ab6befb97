"""Money: what was spent and what may still become due are never above the cap together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.spend import Price, Spend

DAY = 20_000


def test_a_price_is_per_million_tokens():
    assert Price(0.4, 1.2).of(1_000_000, 500_000) == pytest.approx(1.0)


def test_what_is_reserved_cannot_be_spent_twice():
    spend = Spend(10.0, DAY)
    assert spend.reserve(DAY, 6.0)
    assert not spend.reserve(DAY, 6.0)
    spend.settle(DAY, 6.0, 1.0)
    assert spend.reserve(DAY, 6.0)
    assert spend.left(DAY) == pytest.approx(3.0)


def test_a_new_day_has_its_own_money_and_an_old_one_never_comes_back():
    spend = Spend(1.0, DAY)
    assert spend.reserve(DAY, 1.0)
    spend.settle(DAY, 1.0, 1.0)
    assert not spend.reserve(DAY, 0.5)
    assert spend.reserve(DAY + 1, 0.5)
    spend.settle(DAY + 1, 0.5, 0.5)
    assert not spend.reserve(DAY, 0.75)  # the clock was set back
    assert spend.day == DAY + 1


def test_a_call_over_midnight_is_settled_on_the_new_day():
    spend = Spend(1.0, DAY)
    assert spend.reserve(DAY, 0.6)
    spend.settle(DAY + 1, 0.6, 0.5)
    assert spend.left(DAY + 1) == pytest.approx(0.5)


def test_without_a_cap_nothing_is_refused_and_with_none_left_only_what_is_free():
    assert Spend(None, DAY).reserve(DAY, 1e9)
    nothing = Spend(0.0, DAY)
    assert nothing.reserve(DAY, 0.0)
    assert not nothing.reserve(DAY, 0.01)


def test_a_restart_counts_what_was_promised_as_spent():
    spend, written = Spend(100.0, DAY), 0.0
    for _ in range(30):
        assert spend.reserve(DAY, 1.0)
        written = spend.ahead() or written
    assert written >= 30.0
    again = Spend(100.0, DAY, written)
    assert (again.left(DAY) or 0.0) <= 70.0


@given(st.lists(st.tuples(st.floats(0.01, 3.0), st.floats(0, 1), st.booleans()), max_size=80))
def test_the_cap_holds_under_any_interleaving(calls):
    spend, running, written, writes = Spend(10.0, DAY), [], 0.0, 0
    for most, share, ends_one in calls:
        if spend.reserve(DAY, most):
            running.append((most, share))
            promised = spend.ahead()
            if promised is not None:
                written, writes = promised, writes + 1
        if ends_one and running:
            reserved, part = running.pop(0)
            spend.settle(DAY, reserved, reserved * part)
        assert spend.spent + spend.reserved <= 10.0 + 1e-9
        assert spend.spent + spend.reserved <= written + 1e-9
    assert writes <= 51
    assert spend.reserved == pytest.approx(sum(most for most, _ in running))
