"""What a queue knows of itself: how fast seats come back while calls wait, and whether more are asked for than come back."""

from __future__ import annotations

DRAIN_WEIGHT = 0.1  # of one departure in the running means of gaps and sizes
STALLED_GAPS = 10  # mean gaps without a departure, after which the silence itself is the better estimate
TOO_MUCH = 1.1  # times what is given back


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
            self.is_too_much = self._windows > 1 and self._asked > TOO_MUCH * self.given
            self._windows += 1
            self._asked = self.given = 0
            self._begins_s = now
        self._asked += 1

    def rest(self) -> None:
        """Nobody waits."""
        self._windows = self._asked = self.given = 0
        self.is_too_much = False


class Drain:
    """How fast seats come back while calls wait, in tokens: running means of the gap between two departures and of their
    size."""

    __slots__ = ("_count", "_gap_s", "_left_s", "_tokens")

    def __init__(self) -> None:
        self._count = 0
        self._gap_s = self._tokens = self._left_s = 0.0

    def begins(self, now: float) -> None:
        """From now on calls wait: gaps before were not for want of seats."""
        self._left_s = now

    def note(self, now: float, tokens: int) -> None:
        self._count += 1
        weight = max(DRAIN_WEIGHT, 1 / self._count)
        self._gap_s += weight * (now - self._left_s - self._gap_s)
        self._tokens += weight * (tokens - self._tokens)
        self._left_s = now

    def seconds(self, now: float, tokens: int) -> float:
        """Until so many have come back; 0 while nothing was measured."""
        if not self._tokens or not tokens:
            return 0.0
        silence_s = now - self._left_s
        gap_s = silence_s if silence_s > STALLED_GAPS * self._gap_s else self._gap_s
        return tokens * gap_s / self._tokens
