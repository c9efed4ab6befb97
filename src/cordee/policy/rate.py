"""Decides whether a rate or a number at once still has room: meters that one process keeps by itself, exactly.

A meter is asked whether an amount fits, and takes it: two steps, so that several meters of one caller can all be asked before
any of them takes. What was taken and not used is given back; what was used beyond it is taken afterwards, and may leave a
debt that later calls wait for. A rate is a bucket that fills at its rate and starts full: one number and one time, no refill
in the background.
"""

from __future__ import annotations

from typing import Protocol

MINUTE_S = 60.0
BURST_SHARE = 0.25  # of a minute's requests that may come at once
OPEN_RETRY_S = 1.0  # a call that runs may end at any time; nobody knows when


class Meter(Protocol):
    """One limit. Times are monotonic seconds; amounts are in the limit's unit."""

    limit: float

    def lacks_s(self, now: float, amount: float) -> float:
        """Seconds until `amount` would fit; 0: it fits now. Nothing is taken."""
        ...

    def take(self, now: float, amount: float) -> None:
        """Whether it fits or not: facts are taken too."""
        ...

    def give(self, now: float, amount: float) -> None:
        """Part of what was taken was not used."""
        ...

    def remaining(self, now: float) -> float: ...

    def reset_s(self, now: float) -> float:
        """Until everything is there again if nothing is taken."""
        ...

    def relimit(self, now: float, limit: float) -> None:
        """Somebody has changed the limit; what was used stays used."""
        ...

    def is_unused(self, now: float) -> bool:
        """It says nothing that a new meter would not say: it may be forgotten."""
        ...


class Bucket:
    """At most `limit` units a minute, `burst_share` of them at once. More than that at once is taken as what fits at most: such
    a call needs a full bucket and leaves a debt."""

    __slots__ = ("_at_s", "_burst_share", "_level", "limit")

    def __init__(self, now: float, limit: float, burst_share: float) -> None:
        self.limit = limit
        self._burst_share = burst_share
        self._level = self.burst
        self._at_s = now

    @property
    def burst(self) -> float:
        return max(1.0, self.limit * self._burst_share)

    def lacks_s(self, now: float, amount: float) -> float:
        level, wanted = self._fill(now), min(amount, self.burst)
        return 0.0 if wanted <= level + EPSILON else (wanted - level) * MINUTE_S / self.limit

    def take(self, now: float, amount: float) -> None:
        self._level = self._fill(now) - amount

    def give(self, now: float, amount: float) -> None:
        self._level = min(self.burst, self._fill(now) + amount)

    def remaining(self, now: float) -> float:
        return max(0.0, self._fill(now))

    def reset_s(self, now: float) -> float:
        return (self.burst - self._fill(now)) * MINUTE_S / self.limit

    def relimit(self, now: float, limit: float) -> None:
        used = self.burst - self._fill(now)
        self.limit = limit
        self._level = self.burst - used

    def is_unused(self, now: float) -> bool:
        return self._fill(now) >= self.burst

    def _fill(self, now: float) -> float:
        if now > self._at_s:  # a clock that stands still or goes back fills nothing
            self._level = min(self.burst, self._level + (now - self._at_s) * self.limit / MINUTE_S)
            self._at_s = now
        return self._level


EPSILON = 1e-6  # of a unit: what rounding may have cost a bucket that should be just full enough


class AtOnce:
    """At most `limit` at the same time."""

    __slots__ = ("limit", "open")

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.open = 0.0

    def lacks_s(self, now: float, amount: float) -> float:
        return 0.0 if self.open + amount <= self.limit else OPEN_RETRY_S

    def take(self, now: float, amount: float) -> None:
        self.open += amount

    def give(self, now: float, amount: float) -> None:
        self.open = max(0.0, self.open - amount)

    def remaining(self, now: float) -> float:
        return max(0.0, self.limit - self.open)

    def reset_s(self, now: float) -> float:
        return OPEN_RETRY_S if self.open else 0.0

    def relimit(self, now: float, limit: float) -> None:
        self.limit = limit

    def is_unused(self, now: float) -> bool:
        return not self.open
