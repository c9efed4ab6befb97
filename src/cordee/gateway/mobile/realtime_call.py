"""One call of a WebSocket and the way to answer it: what becomes of it, as messages under the client's name for it."""

from __future__ import annotations

from typing import Protocol

from cordee.gateway.kept.idempotency import KEPT
from cordee.gateway.replies import JSON
from cordee.http.exchange import Answer, Listener
from cordee.http.websocket import WebSocket
from cordee.wire import errors, realtime
from cordee.wire.errors import Invalid
from cordee.wire.realtime import RealtimeShape
from cordee.wire.shape import Shape

CANCELLED = 499  # the status that proxies log for a client that did not wait


class Session(Protocol):
    """The connection that the call came on."""

    @property
    def socket(self) -> WebSocket: ...

    def ended(self, id: str) -> None:
        """The call of this name is over."""
        ...


class CallOutlet:
    """http.exchange.Outlet: its end is one message, and then it is inert."""

    __slots__ = ("_id", "_session", "_stream", "is_resumable", "listener")

    def __init__(self, session: Session, id: str) -> None:
        self._session: Session | None = session
        self._id = id
        self._stream = ""
        self.is_resumable = False
        self.listener: Listener | None = None

    def shape(self, id: str, model: str, fingerprint: str) -> Shape:
        """ShapeOf: the format of this call's answer, and its name."""
        self._stream = id
        return RealtimeShape(self._id)

    @property
    def is_open(self) -> bool:
        return self._session is not None

    @property
    def is_slow(self) -> bool:
        return self._session is not None and self._session.socket.is_slow

    def answer(self, answer: Answer) -> None:
        is_whole = answer.status == 200
        if is_whole:
            self.begin(200, answer.headers)
        self._end(answer.body if is_whole else realtime.failed(self._id, answer.body, answer.headers))

    def begin(self, status: int, headers: bytes) -> None:
        self.write(realtime.created(self._id, self._stream, resumable=self.is_resumable or KEPT in headers))

    def write(self, data: bytes) -> None:
        if data and self._session is not None:
            self._session.socket.send(data)

    def end(self, data: bytes = b"") -> None:
        self._end(data)

    def fail(self, answer: Answer, event: bytes) -> None:
        self.answer(answer)

    def abort(self) -> None:
        what = "this gateway cannot go on with the call; resume it on a new connection"
        self.answer(Answer(503, JSON, errors.body(503, what, None, "moved")))

    def refuse(self, fault: Invalid) -> None:
        self.answer(Answer(fault.status, b"", errors.body(fault.status, fault.message, fault.param, fault.code)))

    def cancel(self) -> None:
        """The client wants no more of it."""
        listener = self.listener
        self._end(
            realtime.failed(self._id, errors.body(CANCELLED, "the client cancelled this call", None, "cancelled"))
        )
        if listener is not None:
            listener.cancelled()

    def lost(self) -> None:
        self._session = None
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.gone()

    def _end(self, message: bytes) -> None:
        session, self._session = self._session, None
        self.listener = None
        if session is not None:
            if message:
                session.socket.send(message)
            session.ended(self._id)
