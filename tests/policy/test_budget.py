from __future__ import annotations

from datetime import UTC, datetime

import pytest

from cordee.domain.caller import Period
from cordee.policy.budget import BELIEVED_AFTER_S, Calendar, Window, bounds

NOON = datetime(2026, 11, 21, 12, 30, tzinfo=UTC).timestamp()
HOUR_S, DAY_S = 3600.0, 86_400.0


def utc(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("period", "at", "begins", "ends"),
    [
        (Period.HOUR, (2026, 11, 21, 12, 30), (2026, 11, 21, 12), (2026, 11, 21, 13)),
        (Period.DAY, (2026, 12, 31, 23, 59), (2026, 12, 31), (2027, 1, 1)),
        (Period.MONTH, (2026, 2, 28, 3, 0), (2026, 2, 1), (2026, 3, 1)),
        (Period.MONTH, (2026, 12, 31, 3, 0), (2026, 12, 1), (2027, 1, 1)),
    ],
)
def test_periods_are_those_of_utc(period, at, begins, ends):
    assert bounds(period, utc(*at)) == (utc(*begins), utc(*ends))


def test_a_budget_is_used_up_until_its_period_ends():
    window = Window(0.0, 100, Period.HOUR, Calendar(0.0, NOON))
    window.take(0.0, 100)
    assert window.lacks_s(0.0, 1) == pytest.approx(1800)
    assert window.lacks_s(1801.0, 1) == 0
    assert window.remaining(1801.0) == 100


def test_a_call_larger_than_the_whole_budget_needs_it_unused():
    window = Window(0.0, 100, Period.DAY, Calendar(0.0, NOON))
    assert window.lacks_s(0.0, 1000) == 0
    window.take(0.0, 1)
    assert window.lacks_s(0.0, 1000) > 0


def test_a_clock_that_jumps_ahead_renews_no_budget():
    calendar = Calendar(0.0, NOON)
    window = Window(0.0, 100, Period.DAY, calendar)
    window.take(0.0, 100)
    assert not calendar.note(1.0, NOON + 2 * DAY_S)
    assert window.lacks_s(1.0, 1) > 0
    assert calendar.note(2.0, NOON + 2), "it was a moment's mistake"
    assert window.lacks_s(2.0, 1) > 0


def test_a_clock_that_stays_at_its_new_time_is_believed():
    calendar = Calendar(0.0, NOON)
    window = Window(0.0, 100, Period.DAY, calendar)
    window.take(0.0, 100)
    believed = [calendar.note(float(s), NOON + 2 * DAY_S + s) for s in range(1, int(BELIEVED_AFTER_S) + 2)]
    assert believed == [False] * int(BELIEVED_AFTER_S) + [True]
    assert window.lacks_s(BELIEVED_AFTER_S + 2, 1) == 0


def test_a_clock_that_goes_back_takes_nobodys_budget_away_and_renews_none():
    calendar = Calendar(0.0, NOON)
    window = Window(0.0, 100, Period.HOUR, calendar)
    window.take(0.0, 60)
    for s in range(1, int(BELIEVED_AFTER_S) + 2):
        calendar.note(float(s), NOON - DAY_S + s)
    now = BELIEVED_AFTER_S + 2
    assert calendar.utc(now).timestamp() == pytest.approx(NOON - DAY_S + now)
    assert window.remaining(now) == 40
    assert window.reset_s(now) <= HOUR_S


def test_a_clock_that_jumps_about_is_never_believed():
    calendar = Calendar(0.0, NOON)
    for s in range(1, 300):
        calendar.note(float(s), NOON + (s % 7) * DAY_S if s % 7 else NOON - DAY_S)
    assert calendar.utc(300.0).timestamp() == pytest.approx(NOON + 300)


def test_small_corrections_are_followed():
    calendar = Calendar(0.0, NOON)
    assert calendar.note(10.0, NOON + 11.5)
    assert calendar.utc(10.0).timestamp() == pytest.approx(NOON + 11.5)
