"""Short turns of the event loop, in a crowd. Decides how many requests begin in one turn, and who waits for the next.

libuv looks at 1,024 sockets at a time, and as long as so many are ready it looks again, 48 times, before anything else has its
turn: timers, tasks, new connections. With thousands of busy clients that is seconds. So when enough has begun, what others send is put
aside as it came, which costs next to nothing, and the loop soon turns. First come, first served.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

REQUESTS_MAX = 256  # at some 60 µs each, answers included: timers are 20 ms late at most


class Held(Protocol):
    """A connection whose client has sent something."""

    def release(self) -> None:
        """It is its turn."""
        ...


class Turn:
    """What has begun since the loop turned. Whoever begins a request counts it in `begun`; at `REQUESTS_MAX` connections are held."""

    __slots__ = ("_held", "_loop", "begun")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._held: deque[Held] = deque()  # each connection once at most
        self.begun = 0  # in this turn; in a quiet loop since the last 256, which nobody notices

    def hold(self, connection: Held) -> None:
        """Until the loop has turned, and those who came before have begun."""
        if not self._held:
            self._loop.call_soon(self._turned)
        self._held.append(connection)

    def _turned(self) -> None:
        self.begun = 0
        held = self._held
        for _ in range(len(held)):
            if self.begun >= REQUESTS_MAX:
                self._loop.call_soon(self._turned)
                return
            held.popleft().release()
