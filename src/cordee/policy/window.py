"""Counts what happened within the last seconds: calls, how many failed, and how long first tokens took.

Time is cut into a fixed number of slices; a slice that is older than the window is forgotten as a whole. What is said is
therefore at most one slice too old, and costs the same however many calls there are.
"""

from __future__ import annotations

SLICES = 10


class Window:
    """The last `length_s` seconds."""

    __slots__ = ("_at", "_calls", "_failed", "_first_s", "_firsts", "_slice_s")

    def __init__(self, length_s: float) -> None:
        self._slice_s = length_s / SLICES
        self._at = 0  # the number of the newest slice
        self._calls = [0] * SLICES
        self._failed = [0] * SLICES
        self._firsts = [0] * SLICES
        self._first_s = [0.0] * SLICES

    def note(self, now: float, *, failed: bool, first_s: float | None) -> None:
        """A call ended. `first_s`: how long its first token took, None where there was none."""
        at = self._turn(now)
        self._calls[at] += 1
        if failed:
            self._failed[at] += 1
        if first_s is not None:
            self._firsts[at] += 1
            self._first_s[at] += first_s

    def calls(self, now: float) -> int:
        self._turn(now)
        return sum(self._calls)

    def failed_share(self, now: float) -> float | None:
        """Between 0 and 1; None where nothing ended."""
        calls = self.calls(now)
        return sum(self._failed) / calls if calls else None

    def first_token_s(self, now: float) -> float | None:
        """The mean; None where no first token came."""
        self._turn(now)
        firsts = sum(self._firsts)
        return sum(self._first_s) / firsts if firsts else None

    def _turn(self, now: float) -> int:
        """The place of the current slice; those that are over are emptied on the way."""
        number = int(now / self._slice_s)
        for old in range(max(self._at + 1, number - SLICES + 1), number + 1):
            place = old % SLICES
            self._calls[place] = self._failed[place] = self._firsts[place] = 0
            self._first_s[place] = 0.0
        self._at = max(self._at, number)
        return self._at % SLICES
