"""Port Clock in virtual time: waits are a heap, and time jumps to the next one."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class VirtualTimer:
    """A wait that has been asked for."""

    __slots__ = ("what",)

    def __init__(self, what: Callable[[], None]) -> None:
        self.what: Callable[[], None] | None = what

    def cancel(self) -> None:
        self.what = None


class VirtualClock:
    """Time that passes only when `run` finds the next thing to do. Equal times run in the order they were asked for."""

    def __init__(self) -> None:
        self._now_s = 0.0
        self._order = count()
        self._heap: list[tuple[float, int, VirtualTimer]] = []

    def now(self) -> float:
        return self._now_s

    def call_later(self, delay_s: float, what: Callable[[], None]) -> VirtualTimer:
        timer = VirtualTimer(what)
        heapq.heappush(self._heap, (self._now_s + max(0.0, delay_s), next(self._order), timer))
        return timer

    def run(self, until_s: float) -> None:
        """Do everything that is due up to `until_s`."""
        while self._heap and self._heap[0][0] <= until_s:
            self._now_s, _, timer = heapq.heappop(self._heap)
            if timer.what is not None:
                timer.what()
        self._now_s = until_s
