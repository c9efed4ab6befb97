"""The body of a request as it comes, for who asked for that at its head: pushed on piece by piece, held back while the other side is
slow, never gathered. Decides how much of it may come and how slowly; who takes it is decided elsewhere.

A handler gives a request an `Inflow` when it admits it. `handle` is called at once then, before anything of the body is there.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

PACE_BYTES_MIN = 16 * 1024  # within `body_timeout_s`, half a kilobyte a second: slower ones hold a place for nothing


class Taker(Protocol):
    """Who gets a body. Synchronous, and must not block. That the client has gone says `http.exchange.Listener`."""

    def data(self, data: bytes) -> None:
        """A piece; not empty."""
        ...

    def whole(self) -> None:
        """That was all of it."""
        ...


class Inflow:
    """One body. `bytes_max`: 0 is no limit. `length`: what the head says, None where it does not."""

    __slots__ = (
        "_gathered", "_marked", "_marked_s", "_taker", "_transport", "bytes_max", "is_answered", "is_held", "is_whole", "length", "size",
    )  # fmt: skip

    def __init__(self, bytes_max: int, length: int | None) -> None:
        self.bytes_max = bytes_max
        self.length = length
        self.size = 0  # what has come, in bytes
        self.is_whole = False
        self.is_held = False
        self.is_answered = False  # the answer has begun already
        self._taker: Taker | None = None
        self._gathered: list[bytes] = []  # until somebody takes it: what came with the head, and one read more
        self._transport: asyncio.Transport | None = None
        self._marked = 0
        self._marked_s = 0.0

    # -- for who takes it

    def open(self, taker: Taker) -> None:
        """It goes to `taker` from now on."""
        assert self._taker is None, "a body is taken once"
        self._taker = taker
        gathered, self._gathered = self._gathered, []
        self.is_held = False
        for piece in gathered:
            taker.data(piece)
        if self.is_whole:
            taker.whole()
        elif not self.is_held:  # it was, as nobody took it
            self.resume()

    def pause(self) -> None:
        """Nothing more for now: the client is held back."""
        self.is_held = True
        if self._transport is not None and not self.is_whole:
            self._transport.pause_reading()

    def resume(self) -> None:
        self.is_held = False
        if self._transport is not None and not self.is_whole and not self._transport.is_closing():
            self._transport.resume_reading()

    # -- for the connection

    def leave(self) -> None:
        """Nothing more of it is read."""
        self._transport = None
        self._taker = None
        self._gathered.clear()

    def begin(self, transport: asyncio.Transport, now_s: float) -> None:
        """It is the turn of its request."""
        self._transport = transport
        self._marked_s = now_s

    def take(self, data: bytes) -> bool:
        """A piece has come. False: it is one too many."""
        self.size += len(data)
        if self.bytes_max and self.size > self.bytes_max:
            return False
        if self._taker is not None:
            self._taker.data(data)
        else:
            self._gathered.append(data)
            self.pause()  # nobody takes it yet
        return True

    def end(self) -> None:
        """All of it has come."""
        self.is_whole = True
        if self.is_held and self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()  # what comes now is no business of ours
        self._transport = None
        if self._taker is not None:
            self._taker.whole()

    def is_late(self, now_s: float, timeout_s: float) -> bool:
        """Looked at by the sweep. Time in which the client was held back is not the client's."""
        if self.is_held or self.size - self._marked >= PACE_BYTES_MIN:
            self._marked, self._marked_s = self.size, now_s
        return now_s - self._marked_s > timeout_s
