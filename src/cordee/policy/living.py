"""Decides which of a few equal processes is asked: in turns, among those that live.

One that could not be reached is left alone for a moment, because it is being started again: whoever asks meanwhile is told so at once
instead of waiting for another failure. One that has fallen silent (it is reached, and says nothing) is left alone until it speaks.
"""

from __future__ import annotations

from collections.abc import Collection


class Living:
    """`count` processes, known by their index. `rest_s`: how long one that was not reached is left alone."""

    __slots__ = ("_next", "_rests_until_s", "_silent", "rest_s")

    def __init__(self, count: int, rest_s: float) -> None:
        self.rest_s = rest_s
        self._rests_until_s = [0.0] * count
        self._silent = [False] * count
        self._next = 0

    def ask(self, now: float, tried: Collection[int] = ()) -> int | None:
        """The one whose turn it is, of those not yet `tried`; None: nobody is there now."""
        count = len(self._silent)
        for step in range(count):
            index = (self._next + step) % count
            if index not in tried and self.is_living(now, index):
                self._next = (index + 1) % count
                return index
        return None

    def is_living(self, now: float, index: int) -> bool:
        return not self._silent[index] and now >= self._rests_until_s[index]

    def note_away(self, now: float, index: int) -> None:
        """It could not be reached."""
        self._rests_until_s[index] = now + self.rest_s

    def note_silent(self, index: int) -> None:
        """It was asked how it is, and has not answered in time."""
        self._silent[index] = True

    def note_heard(self, index: int) -> None:
        """It has said something."""
        self._silent[index] = False
        self._rests_until_s[index] = 0.0
