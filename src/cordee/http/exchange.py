"""One request and the way to answer it: whole, or in pieces. Decides how an answer is framed, and whether its connection is
kept; touches nothing but the connection it came on."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from cordee.http.request import Request

if TYPE_CHECKING:
    from cordee.http.connection import Connection


class StatusLines(dict[int, bytes]):
    """The first line of an answer, by its status. One that has no name (a forwarded 499) goes out without one."""

    def __missing__(self, status: int) -> bytes:
        return b"HTTP/1.1 %d \r\n" % status


STATUS_LINES = StatusLines(
    (status.value, b"HTTP/1.1 %d %s\r\n" % (status.value, status.phrase.encode())) for status in HTTPStatus
)
CLOSE = b"connection: close\r\n"


class Answer:
    """A whole answer. `headers` are lines, each ending in CRLF, without length and connection."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: bytes, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body


class Listener(Protocol):
    """Whoever answers an exchange hears of the client through this."""

    def gone(self) -> None:
        """The client has closed its side; nothing written is seen any more."""
        ...

    def cancelled(self) -> None:
        """The client has said that it wants no more; it will not come back for the rest."""
        ...

    def writable(self) -> None:
        """A slow client has read what was written."""
        ...


class Successor(Protocol):
    """What a connection becomes when its protocol changes: an asyncio.Protocol that the server's sweep still looks after."""

    def inherit(self, origin: asyncio.Protocol, transport: asyncio.Transport) -> None:
        """The connection has passed over; `origin.connection_lost` is to be called at its end."""
        ...

    def data_received(self, data: bytes) -> None: ...

    def swept(self, now_s: float, *, closing: bool) -> None: ...


class Outlet(Protocol):
    """Whatever an answer can be written to: an HTTP exchange, one call of a WebSocket, one RPC. After its end it is inert.

    `listener` hears of the client. `is_slow`: the client reads more slowly than is written: hold back until
    `listener.writable`.
    """

    listener: Listener | None

    @property
    def is_open(self) -> bool: ...

    @property
    def is_slow(self) -> bool: ...

    def answer(self, answer: Answer) -> None:
        """A whole answer at once."""
        ...

    def begin(self, status: int, headers: bytes) -> None:
        """An answer that comes in pieces begins. `headers` are lines, each ending in CRLF."""
        ...

    def write(self, data: bytes) -> None:
        """A piece of the answer."""
        ...

    def end(self, data: bytes = b"") -> None:
        """The last piece, and the end."""
        ...

    def fail(self, answer: Answer, event: bytes) -> None:
        """An answer that has begun ends in an error: `answer` as it would have been had nothing been written, `event` as a
        piece of the stream."""
        ...

    def abort(self) -> None:
        """Break off visibly: the client must not take what it has for a whole answer."""
        ...


class Exchange:
    """One request and the way to answer it. After its end it is inert."""

    __slots__ = ("_chunked", "_connection", "_keep_alive", "listener")

    def __init__(self, connection: Connection, request: Request) -> None:
        self._connection: Connection | None = connection
        self._keep_alive = request.keep_alive
        self._chunked = request.version == "1.1"
        self.listener: Listener | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    @property
    def is_slow(self) -> bool:
        """The client reads more slowly than is written: hold back until `listener.writable`."""
        return self._connection is not None and self._connection.paused

    def answer(self, answer: Answer) -> None:
        """A whole answer at once."""
        connection = self._connection
        if connection is None:
            return
        if not self._keep_alive or connection.server.closing or connection.inflow is not None:
            self._keep_alive = False
            end = b"connection: close\r\n\r\n"
        else:
            end = b"\r\n"
        connection.transport.write(
            b"%s%s%scontent-length: %d\r\n%s%s"
            % (STATUS_LINES[answer.status], connection.server.date, answer.headers, len(answer.body), end, answer.body)
        )
        self._detach(connection)

    def begin(self, status: int, headers: bytes) -> None:
        """The head of an answer that comes in pieces."""
        connection = self._connection
        if connection is None:
            return
        inflow = connection.inflow
        close = not self._keep_alive or connection.server.closing or not self._chunked or inflow is not None
        if inflow is not None:
            inflow.is_answered = True
        self._keep_alive = not close
        coding = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        connection.transport.write(
            STATUS_LINES[status] + connection.server.date + headers + coding + (CLOSE if close else b"") + b"\r\n"
        )

    def begin_sized(self, status: int, headers: bytes, length: int | None) -> None:
        """The head of an answer that comes in pieces and whose length is known, in bytes; None: it has no body by its status.
        Whoever cannot write all of it aborts."""
        connection = self._connection
        if connection is None:
            return
        self._chunked = False
        inflow = connection.inflow
        if inflow is not None:
            inflow.is_answered = True
        self._keep_alive = self._keep_alive and not connection.server.closing and inflow is None
        framing = b"" if length is None else b"content-length: %d\r\n" % length
        close = b"" if self._keep_alive else CLOSE
        connection.transport.write(STATUS_LINES[status] + connection.server.date + headers + framing + close + b"\r\n")

    def write(self, data: bytes) -> None:
        """A piece of the answer; `data` must not be empty."""
        connection = self._connection
        if connection is not None:
            connection.transport.write(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    def end(self, data: bytes = b"") -> None:
        """The last piece, and the end."""
        connection = self._connection
        if connection is None:
            return
        if self._chunked:
            connection.transport.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n")
        elif data:
            connection.transport.write(data)
        self._detach(connection)

    def fail(self, answer: Answer, event: bytes) -> None:
        """The status has left already: the error is the last piece."""
        self.write(event)
        self.end()

    def abort(self) -> None:
        """Break off visibly: the client must not take what it has for a whole answer."""
        connection = self._connection
        if connection is not None:
            self._connection = None
            connection.transport.abort()

    def switch(self, head: bytes, successor: Successor) -> None:
        """The connection changes its protocol: `head` is the last that it says in this one, status line and all."""
        connection = self._connection
        if connection is not None:
            self._connection = None
            self.listener = None
            connection.switch(head, successor)

    def with_headers(self, request: Request, lines: bytes) -> Exchange:
        """The same exchange, whose answer carries these header lines too; this one is inert from now on."""
        connection = self._connection
        if connection is None:
            return self
        self._connection = None
        return connection.replace(MarkedExchange(connection, request, lines))

    def _detach(self, connection: Connection) -> None:
        self._connection = None
        self.listener = None
        connection.finished(self._keep_alive)

    def lost(self) -> None:
        self._connection = None
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.gone()


class MarkedExchange(Exchange):
    """An exchange whose answer carries further header lines, whoever gives it."""

    __slots__ = ("_lines",)

    def __init__(self, connection: Connection, request: Request, lines: bytes) -> None:
        super().__init__(connection, request)
        self._lines = lines

    def answer(self, answer: Answer) -> None:
        super().answer(Answer(answer.status, self._lines + answer.headers, answer.body))

    def begin(self, status: int, headers: bytes) -> None:
        super().begin(status, self._lines + headers)

    def begin_sized(self, status: int, headers: bytes, length: int | None) -> None:
        super().begin_sized(status, self._lines + headers, length)


class HeadExchange(Exchange):
    """An exchange whose request was HEAD: the answer has the length of a body, and none (RFC 9110, 9.3.2)."""

    __slots__ = ()

    def answer(self, answer: Answer) -> None:
        connection = self._connection
        if connection is None:
            return
        self._keep_alive = self._keep_alive and not connection.server.closing and connection.inflow is None
        length = b"content-length: %d\r\n" % len(answer.body)
        close = b"" if self._keep_alive else CLOSE
        head = STATUS_LINES[answer.status] + connection.server.date + answer.headers
        connection.transport.write(head + length + close + b"\r\n")
        self._detach(connection)

    def with_headers(self, request: Request, lines: bytes) -> Exchange:
        return self  # whoever asks for a head only gets them with the next answer

    def begin(self, status: int, headers: bytes) -> None:
        """What would come in chunks: as its length is not known, none is said."""
        self.begin_sized(status, headers, None)

    def write(self, data: bytes) -> None:
        pass

    def end(self, data: bytes = b"") -> None:
        connection = self._connection
        if connection is not None:
            self._detach(connection)
