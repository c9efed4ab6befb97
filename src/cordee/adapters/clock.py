"""Port Clock on the running event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from cordee.ports import Timer


class LoopClock:
    """The loop's timers, and the same monotonic clock at full resolution."""

    __slots__ = ("_loop", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.now = time.monotonic

    def call_later(self, delay_s: float, what: Callable[[], None]) -> Timer:
        return self._loop.call_later(delay_s, what)
