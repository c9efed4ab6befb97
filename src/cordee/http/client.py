"""The client side of HTTP/1.1: one connection to an upstream server, one exchange after the other. Decides how an exchange ends; which
connection it gets, `http/pool.py` decides.

An exchange pushes what comes in to its receiver as it comes. It ends in exactly one of `complete`, `closed` and `broken`; a
server that breaks its own framing (a wrong length, bytes nobody asked for, garbage) is `broken`, never `complete`. A server
may close an idle connection in the very moment in which it is used again: a request whose connection had served before and
ended without a byte of an answer is sent once more, on a fresh one (RFC 9112, 9.3.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import httptools

if TYPE_CHECKING:
    from cordee.http.pool import ConnectionPool

GOES_ON, KEEP, CLOSE = range(3)  # how far a response is: not whole, or whole and the connection to be kept or closed
HEADERS_MAX = 100
HEAD_METHOD = b"HEAD "
LENGTHS = frozenset({b"content-length", b"transfer-encoding"})


class Unasked(Exception):
    """The server sent more than was asked for."""


class Receiver(Protocol):
    """Who gets the response."""

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None: ...

    def body(self, data: bytes) -> None: ...

    def complete(self) -> None: ...

    def closed(self) -> None:
        """The server has closed behind an answer that has neither a length nor chunks: whether it is whole, only its content
        can tell."""
        ...

    def broken(self, cause: str, *, ran: bool) -> None:
        """`ran`: the request had been sent, so the server may have worked on it."""
        ...


@runtime_checkable
class Pausable(Protocol):
    """What can be held back while its reader is slow."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Source(Protocol):
    """Whoever sends the body of a request piece by piece, once `started` says that its head has left."""

    def started(self) -> None:
        """The connection is there: `Streaming.write` may be called from now on."""
        ...

    def hold(self) -> None:
        """The server takes less than is written: nothing more for now."""
        ...

    def go_on(self) -> None:
        """It has taken what was written."""
        ...


class Exchange:
    """One request under way."""

    __slots__ = ("connection", "data", "is_bodiless", "is_held", "is_over", "receiver")
    is_sent = True  # all of it has been written, as soon as anything has

    def __init__(self, receiver: Receiver, data: bytes) -> None:
        self.receiver = receiver
        self.data = data  # until the answer begins: an idle connection may turn out to be closed
        self.connection: Connection | None = None
        self.is_over = self.is_held = False
        self.is_bodiless = data.startswith(HEAD_METHOD)  # its answer has a length, and no body

    def cancel(self) -> None:
        """Nothing more is pushed; the server sees the connection end and may stop working."""
        if self.is_over:
            return
        self.is_over = True
        if self.connection is not None:
            self.connection.transport.abort()

    def detach(self) -> None:
        self.cancel()

    def pause(self) -> None:
        if self.connection is not None:
            self.is_held = True
            self.connection.transport.pause_reading()

    def resume(self) -> None:
        if self.connection is not None:
            self.is_held = False
            self.connection.transport.resume_reading()


class Streaming(Exchange):
    """One request whose body is sent as it comes. It is never sent a second time."""

    __slots__ = ("is_sent", "source")

    def __init__(self, receiver: Receiver, head: bytes, source: Source) -> None:
        super().__init__(receiver, head)
        self.source = source
        self.is_sent = False

    def write(self, data: bytes) -> None:
        """A piece of the request, framed as its head says. Without effect once it is over."""
        if self.connection is not None:
            self.connection.transport.write(data)

    def end(self) -> None:
        """All of it has been written."""
        self.is_sent = True


class Connection(asyncio.Protocol):
    """One connection to the upstream server."""

    __slots__ = ("_end", "_headers", "_is_unmarked", "_parser", "_pool", "_served", "exchange", "transport")

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._end = GOES_ON
        self._served = 0  # answers that were whole
        self._is_unmarked = False  # the answer ends where the connection ends
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def send(self, exchange: Exchange) -> None:
        self.exchange = exchange
        exchange.connection = self
        self.transport.write(exchange.data)
        if isinstance(exchange, Streaming):
            exchange.data = b""  # what is gone is gone
            exchange.source.started()

    def pause_writing(self) -> None:
        if isinstance(self.exchange, Streaming) and not self.exchange.is_over:
            self.exchange.source.hold()

    def resume_writing(self) -> None:
        if isinstance(self.exchange, Streaming) and not self.exchange.is_over:
            self.exchange.source.go_on()

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:  # bytes nobody asked for
            self.transport.abort()
            return
        exchange.data = b""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._break(f"it does not speak HTTP/1.1 ({error})")
            return
        if self._end:
            self._finish(exchange)

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        exchange = self.exchange
        if exchange is not None and not exchange.is_over:
            if exchange.data and self._served:
                self.exchange = exchange.connection = None
                self._pool.send_again(exchange)
                return
            if exc is None and self._is_unmarked:
                self.exchange = exchange.connection = None
                exchange.is_over = True
                exchange.receiver.closed()
                return
        self._break("it closed the connection" if exc is None else f"the connection was lost ({exc})")

    def eof_received(self) -> bool:
        return False

    def on_message_begin(self) -> None:
        # Behind a whole response: taken for the next one, it would be somebody else's answer.
        if self._end:
            raise Unasked("something follows the response")

    def on_header(self, name: bytes, value: bytes | None) -> None:
        if len(self._headers) < HEADERS_MAX:
            self._headers.append((name.lower(), value or b""))

    def on_headers_complete(self) -> None:
        exchange = self.exchange
        if exchange is not None and not exchange.is_over:
            status = self._parser.get_status_code()
            if status >= 200:
                self._is_unmarked = True
                for name, _ in self._headers:
                    if name in LENGTHS:
                        self._is_unmarked = False
                        break
                exchange.receiver.head(status, self._headers)
                if exchange.is_bodiless:
                    self._end = CLOSE  # the parser would wait for a body
            self._headers = []

    def on_body(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is not None and not exchange.is_over:
            exchange.receiver.body(data)

    def on_message_complete(self) -> None:
        parser = self._parser
        if parser.get_status_code() >= 200:  # else an interim response; the real one follows
            self._end = KEEP if parser.should_keep_alive() else CLOSE

    def _finish(self, exchange: Exchange) -> None:
        """The response is whole, and nothing came behind it."""
        end, self._end = self._end, GOES_ON
        self._served += 1
        self.exchange = None
        if self._headers:  # trailers
            self._headers = []
        if exchange.is_over:
            return
        exchange.is_over = True
        exchange.connection = None
        if exchange.is_held:  # by its last piece: the next exchange is not
            self.transport.resume_reading()
        if end == KEEP and exchange.is_sent and not self.transport.is_closing():
            self._pool.keep(self)
        else:
            self.transport.close()
        exchange.receiver.complete()

    def _break(self, cause: str) -> None:
        exchange, self.exchange = self.exchange, None
        if not self.transport.is_closing():
            self.transport.abort()
        if exchange is not None and not exchange.is_over:
            exchange.is_over = True
            exchange.connection = None
            exchange.receiver.broken(cause, ran=True)
