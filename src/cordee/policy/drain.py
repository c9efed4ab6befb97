"""What a queue knows of itself: how fast seats come back while calls wait, and whether more are asked for than come back."""

from __future__ import annotations

import math

KEPT_MIN = 0.9  # of what was seen before one more departure: ten of them are remembered at least
MEMORY_S = 2.0  # and all of about the last so many seconds, however many they are
TOO_MUCH = 1.1  # times what is given back
SURE = 2.0  # standard deviations of a count beyond that: one call in a window without departures says nothing


class Demand:
    """Whether more seats are asked for than are given back while calls wait, window by window. Counted in calls: clients who
    send the next one when they have their answer then come out even, however their sizes differ. The first window after rest
    does not count: it holds the burst that made the queue."""

    __slots__ = ("_asked", "_begins_s", "_windows", "given", "is_too_much")

    def __init__(self) -> None:
        self._windows = self._asked = self.given = 0
        self._begins_s = 0.0
        self.is_too_much = False

    def asked(self, now: float, window_s: float) -> None:
        """Somebody who has to wait asks for a seat."""
        if not self._windows:
            self._windows, self._begins_s = 1, now
        elif now - self._begins_s >= window_s:
            excess = self._asked - TOO_MUCH * self.given
            self.is_too_much = self._windows > 1 and excess > SURE * math.sqrt(self._asked)
            self._windows += 1
            self._asked = self.given = 0
            self._begins_s = now
        self._asked += 1

    def rest(self) -> None:
        """Nobody waits."""
        self._windows = self._asked = self.given = 0
        self.is_too_much = False


class Drain:
    """How fast seats come back while calls wait, in tokens: what was given back over the time it took.

    Calls that began together and are equally long end together, and then nobody for a while. So what is remembered spans several
    such rounds, and a silence no longer than there have been says nothing; what is longer counts as time without departures.

    The first ones to come back say little of that: beside them others have run as long and have come as far, but a seat counts when
    it is given back, and a short one comes first. So until as much has come back as was out by then, the rate is what was out over
    the time for which a seat is held (Little, 1961), which those that came back were, and no more than if all of it came back now.
    """

    __slots__ = ("_given", "_held", "_left_s", "_longest_s", "_out", "_taken_s", "_tokens")

    def __init__(self) -> None:
        self._tokens = self._taken_s = self._longest_s = self._left_s = 0.0
        self._given = self._out = 0  # tokens of the first round, and
        self._held = 0.0  # times the seconds they were held

    @property
    def is_new(self) -> bool:
        """Nothing has come back yet."""
        return not self._out

    def begins(self, now: float) -> None:
        """From now on calls wait: gaps before were not for want of seats."""
        self._left_s = now

    def note(self, now: float, tokens: int, held_s: float = 0.0, out: int = 0) -> None:
        """A seat that was taken `held_s` ago is given back. `out`: tokens of those that are not, told with the first one."""
        if not self._out:
            self._out = tokens + out
        if self._given < self._out:
            self._given += tokens
            self._held += tokens * held_s
        gap_s = now - self._left_s
        kept = max(KEPT_MIN, math.exp(-gap_s / MEMORY_S))
        self._taken_s = kept * self._taken_s + gap_s
        self._tokens = kept * self._tokens + tokens
        self._longest_s = max(gap_s, kept * self._longest_s)
        self._left_s = now

    def seconds(self, now: float, tokens: int) -> float:
        """Until so many have come back; 0 while nothing was measured."""
        if not self._tokens or not tokens:
            return 0.0
        overdue_s = max(0.0, now - self._left_s - self._longest_s)
        a_token_s = (self._taken_s + overdue_s) / self._tokens
        if self._given < self._out:
            a_token_s = max(a_token_s * self._given, self._held / self._given) / self._out
        return max(overdue_s, tokens * a_token_s)
