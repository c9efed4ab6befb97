"""One RPC and the way to answer it: events wait here until the client has taken those before them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

from cordee.gateway.kept.idempotency import KEPT
from cordee.gateway.replies import JSON
from cordee.http.exchange import Answer, Listener
from cordee.wire import errors
from cordee.wire.shape import Shape
from cordee.wire.v1.shape import EventShape, created, events_of


class RpcExchange:
    """http.exchange.Outlet: filled by the call, drained by the RPC's coroutine. After its end it is inert.

    `is_unary`: the RPC has one answer, not events. `is_resumable`: it goes on with a stream that can be resumed again.
    `refused`: how the call ended when it was not served. What waits is bounded: beyond `buffer_bytes_max` the client is slow,
    and its text is gathered where tokens become text.
    """

    __slots__ = (
        "_buffer_bytes_max",
        "_bytes",
        "_call_id",
        "_is_over",
        "_model",
        "_waiting",
        "_woken",
        "is_resumable",
        "is_unary",
        "listener",
        "refused",
    )

    def __init__(self, buffer_bytes_max: int, *, is_unary: bool, is_resumable: bool) -> None:
        self.is_unary = is_unary
        self.is_resumable = is_resumable
        self._buffer_bytes_max = buffer_bytes_max
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._woken = asyncio.Event()
        self._is_over = False
        self._call_id = self._model = ""
        self.listener: Listener | None = None
        self.refused: Answer | None = None

    def shape(self, id: str, model: str, fingerprint: str) -> Shape:
        """gateway.calls.ShapeOf: the format of this call's answer, and its name."""
        self._call_id, self._model = id, model
        return EventShape(id, model)

    # -- http.exchange.Outlet

    @property
    def is_open(self) -> bool:
        return not self._is_over

    @property
    def is_slow(self) -> bool:
        return self._bytes > self._buffer_bytes_max

    def answer(self, answer: Answer) -> None:
        if self._is_over:
            return
        if answer.status == 200 and self.is_unary:
            self.write(answer.body)
        elif answer.status == 200:  # of a call that was made elsewhere and did not ask for a stream
            self.begin(200, answer.headers)
            for event in events_of(answer.body):
                self.write(event)
        else:
            self.refused = answer
        self._end()

    def begin(self, status: int, headers: bytes) -> None:
        self.write(created(self._call_id, self._model, resumable=self.is_resumable or KEPT in headers))

    def write(self, data: bytes) -> None:
        if data and not self._is_over:
            self._waiting.append(data)
            self._bytes += len(data)
            self._woken.set()

    def end(self, data: bytes = b"") -> None:
        self.write(data)
        self._end()

    def fail(self, answer: Answer, event: bytes) -> None:
        self.answer(answer)

    def abort(self) -> None:
        what = "this gateway cannot go on with the call; resume it"
        self.answer(Answer(503, JSON, errors.body(503, what, None, "moved")))

    # -- the RPC's side

    async def events(self) -> AsyncIterator[bytes]:
        """What the call says, until its end."""
        while True:
            while self._waiting:
                event = self._waiting.popleft()
                was_slow = self.is_slow
                self._bytes -= len(event)
                yield event
                if was_slow and not self.is_slow and self.listener is not None:
                    self.listener.writable()
            if self._is_over:
                return
            self._woken.clear()
            await self._woken.wait()

    def leave(self) -> None:
        """The RPC is over; if the call is not, its client has gone."""
        listener, self.listener = self.listener, None
        if not self._is_over:
            self._is_over = True
            self._waiting.clear()
            if listener is not None:
                listener.gone()

    def _end(self) -> None:
        self._is_over = True
        self.listener = None
        self._woken.set()
