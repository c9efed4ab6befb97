"""Whether and when a process that died is started again: exponential backoff within a window, and giving up loudly.

The wait doubles with every death that the window still remembers, so a process that dies once in a while is back at once and
one that cannot live does not burn the processor of those that can. Giving up is per process: the rest goes on.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Start:
    """Start it again at `at_s`, on the clock that `now` was read from."""

    at_s: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It died `deaths` times within the window: somebody has to look."""

    deaths: int


Decision = Start | GiveUp


@dataclass(frozen=True, slots=True)
class Died:
    """The fact that the process ended without having been asked to."""


class Restart:
    """The decisions about one process. Times in seconds; `deaths_max` deaths within `window_s` are the end of it."""

    __slots__ = ("_backoff_s", "_backoff_s_max", "_deaths", "_deaths_max", "_last_s", "_window_s")

    def __init__(self, backoff_s: float, backoff_s_max: float, deaths_max: int, window_s: float) -> None:
        assert backoff_s > 0
        assert deaths_max >= 1
        assert window_s > 0
        self._backoff_s = backoff_s
        self._backoff_s_max = max(backoff_s, backoff_s_max)
        self._deaths_max = deaths_max
        self._window_s = window_s
        self._deaths: deque[float] = deque(maxlen=deaths_max)
        self._last_s = 0.0

    def note(self, now: float, fact: Died) -> None:
        """Remember a death at `now`."""
        self._deaths.append(now)
        self._last_s = now

    def ask(self, now: float) -> Decision:
        """When to start, given the deaths noted so far. Without any: now."""
        self._forget(now)
        deaths = len(self._deaths)
        if deaths >= self._deaths_max:
            return GiveUp(deaths)
        if not deaths:
            return Start(now)
        return Start(max(now, self._last_s + self._wait_s(deaths)))

    def _wait_s(self, deaths: int) -> float:
        wait_s = self._backoff_s
        for _ in range(deaths - 1):
            wait_s = min(2 * wait_s, self._backoff_s_max)
        return wait_s

    def _forget(self, now: float) -> None:
        while self._deaths and now - self._deaths[0] > self._window_s:
            self._deaths.popleft()
