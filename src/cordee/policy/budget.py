"""Decides whether a period's budget still has room, and which period it is.

Periods are the hours, days and months of UTC. The time of day is not taken on trust: between two looks it must have moved as
far as the monotonic clock has. A jump is believed only when the clock has kept its new time for a while; until then time goes
on as it went. So a clock that is set wrongly for a moment neither renews anybody's budget nor takes it away.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cordee.domain.caller import Period

JUMP_S = 2.0  # beyond what a time service corrects gently between two looks
BELIEVED_AFTER_S = 60.0  # of steady time at its new place


class Calendar:
    """UTC by the monotonic clock, corrected by looks at the clock of the system."""

    __slots__ = ("_ahead_s", "_doubted_ahead_s", "_doubted_since_s")

    def __init__(self, now: float, utc_s: float) -> None:
        self._ahead_s = utc_s - now  # of UTC before the monotonic clock
        self._doubted_ahead_s = self._ahead_s
        self._doubted_since_s: float | None = None

    def note(self, now: float, utc_s: float) -> bool:
        """A look at the system's clock, about once a second. False: it jumped, and is not believed yet."""
        ahead_s = utc_s - now
        if abs(ahead_s - self._ahead_s) <= JUMP_S:
            self._ahead_s = ahead_s
            self._doubted_since_s = None
            return True
        if self._doubted_since_s is None or abs(ahead_s - self._doubted_ahead_s) > JUMP_S:
            self._doubted_since_s = now
        self._doubted_ahead_s = ahead_s
        if now - self._doubted_since_s < BELIEVED_AFTER_S:
            return False
        self._ahead_s = ahead_s
        self._doubted_since_s = None
        return True

    def utc(self, now: float) -> datetime:
        return datetime.fromtimestamp(now + self._ahead_s, UTC)


def bounds(period: Period, at: datetime) -> tuple[datetime, datetime]:
    """The beginning of the period that `at` lies in, and of the one after it."""
    hour = at.replace(minute=0, second=0, microsecond=0)
    if period is Period.HOUR:
        return hour, hour + timedelta(hours=1)
    day = hour.replace(hour=0)
    if period is Period.DAY:
        return day, day + timedelta(days=1)
    month = day.replace(day=1)
    return month, (month + timedelta(days=DAYS_PAST_ANY_MONTH)).replace(day=1)


DAYS_PAST_ANY_MONTH = 32  # from the first of a month: always in the next one


class Window:
    """At most `limit` units in each period. Never reset by a calendar that goes back."""

    __slots__ = ("_begins", "_calendar", "_ends", "_period", "limit", "used")

    def __init__(self, now: float, limit: float, period: Period, calendar: Calendar) -> None:
        self.limit = limit
        self.used = 0.0
        self._period = period
        self._calendar = calendar
        self._begins, self._ends = bounds(period, calendar.utc(now))

    def name(self, now: float) -> str:
        """Of the current period: unlike that of any other."""
        self._turn(now)
        return self._begins.strftime("%Y%m%d%H")

    def lacks_s(self, now: float, amount: float) -> float:
        self._turn(now)
        return 0.0 if self.used + min(amount, self.limit) <= self.limit else max(1.0, self.reset_s(now))

    def take(self, now: float, amount: float) -> None:
        self._turn(now)
        self.used += amount

    def give(self, now: float, amount: float) -> None:
        self._turn(now)
        self.used = max(0.0, self.used - amount)

    def remaining(self, now: float) -> float:
        self._turn(now)
        return max(0.0, self.limit - self.used)

    def reset_s(self, now: float) -> float:
        return max(0.0, (self._ends - self._calendar.utc(now)).total_seconds())

    def relimit(self, now: float, limit: float) -> None:
        self.limit = limit

    def is_unused(self, now: float) -> bool:
        self._turn(now)
        return not self.used

    def _turn(self, now: float) -> None:
        at = self._calendar.utc(now)
        if at >= self._ends:
            self.used = 0.0
        elif at >= self._begins:
            return
        self._begins, self._ends = bounds(self._period, at)
