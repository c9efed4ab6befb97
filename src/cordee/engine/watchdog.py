"""Watches that steps come back: one that takes too long is stopped, and where that does not help either, the engine is given up.

A stopped step is undone by the loop and its sequences run one by one, so that only the one at fault fails. Runs in a thread of its own,
which sleeps but for a few looks in the time a step may take.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread
from typing import Protocol

log = logging.getLogger(__name__)

LOOKS = 4  # in the longest time a step may take: it is noticed at most a quarter of it late
PATIENCE = 2  # times that; who is still at it then does not hear us


class Watched(Protocol):
    """What is watched. `began_s`: when it began what it is at, 0 while it rests."""

    began_s: float


class Watchdog:
    """`abort` stops what runs, from another thread; `lost(why)` is told once that it did not help. `aborted` counts."""

    def __init__(
        self,
        watched: Watched,
        step_s_max: float,
        now: Callable[[], float],
        abort: Callable[[], None],
        lost: Callable[[str], None],
    ) -> None:
        self._watched = watched
        self._step_s_max = step_s_max
        self._now = now
        self._abort = abort
        self._lost = lost
        self._stopping = Event()
        self._told_s = 0.0  # when what was stopped last had begun
        self.aborted = 0
        self.is_lost = False

    def start(self) -> None:
        Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Returns at once; the thread ends by itself."""
        self._stopping.set()

    def look(self) -> None:
        """Judge what runs now."""
        began_s = self._watched.began_s
        took_s = self._now() - began_s
        if not began_s or took_s < self._step_s_max or self.is_lost:
            return
        if began_s != self._told_s:
            self._told_s = began_s
            self.aborted += 1
            log.error("a step of the engine takes %.1f s, longer than %g s: it is stopped", took_s, self._step_s_max)
            self._abort()
        elif took_s >= PATIENCE * self._step_s_max:
            self.is_lost = True
            self._lost(
                f"a step has not come back for {took_s:.1f} s, though it was told to stop after {self._step_s_max:g} s; if this machine "
                "is only slow, raise engine.step_s_max or lower engine.batch"
            )

    def _run(self) -> None:
        while not self._stopping.wait(self._step_s_max / LOOKS):
            self.look()
