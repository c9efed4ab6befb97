"""How many lines of one batch are asked at once: as many as the gateways take without a refusal, and fewer after one.

A batch lives from what others leave over. It begins with few and doubles while all goes well, halves and pauses when it is told that
there is no room, and from then on adds one per round (TCP's slow start and additive increase, V. Jacobson, 1988). `now` is an
argument; seconds of any clock.
"""

from __future__ import annotations

FIRST = 2


class Pace:
    """`most`: never more at once; `pause_s`: after a refusal that does not say how long; `pause_s_max`: whatever it says."""

    def __init__(self, most: int, pause_s: float, pause_s_max: float) -> None:
        self._most = most
        self._pause_s = pause_s
        self._pause_s_max = pause_s_max
        self._window = float(min(FIRST, most))
        self._is_careful = False
        self._shut_until = 0.0

    @property
    def window(self) -> int:
        return int(self._window)

    def room(self, running: int, now: float) -> int:
        """How many more may be asked now."""
        return 0 if now < self._shut_until else max(0, self.window - running)

    def pause_s(self, now: float) -> float:
        """How long nothing may be asked; 0 when something may."""
        return max(0.0, self._shut_until - now)

    def served(self) -> None:
        """One was answered."""
        gained = 1.0 / self._window if self._is_careful else 1.0
        self._window = min(float(self._most), self._window + gained)

    def refused(self, now: float, after_s: float | None) -> None:
        """One found no room; the others that run meet the same refusal, so of several together only the first halves."""
        if now >= self._shut_until:
            self._window = max(1.0, self._window / 2)
            self._is_careful = True
        pause_s = min(self._pause_s if after_s is None else after_s, self._pause_s_max)
        self._shut_until = max(self._shut_until, now + pause_s)
