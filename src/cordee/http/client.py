"""The client side of HTTP/1.1: pooled connections to one upstream server, for forwarding.

An exchange pushes what comes in to its receiver as it comes. It ends in exactly one of `complete`, `closed` and `broken`; a
server that breaks its own framing (a wrong length, bytes nobody asked for, garbage) is `broken`, never `complete`. A server
may close an idle connection in the very moment in which it is used again: a request whose connection had served before and
ended without a byte of an answer is sent once more, on a fresh one (RFC 9112, 9.3.1).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Coroutine, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import httptools

GOES_ON, KEEP, CLOSE = range(3)  # how far a response is: not whole, or whole and the connection to be kept or closed
CONNECT_S = 2.0
IDLE_MAX = 4096  # idle connections kept: of thousands under way, hundreds end in one turn of the loop and begin again
DIALLING_MAX = 64  # connections that are being opened at once
HEADERS_MAX = 100
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


class Exchange:
    """One request under way."""

    __slots__ = ("connection", "data", "is_over", "receiver")

    def __init__(self, receiver: Receiver, data: bytes) -> None:
        self.receiver = receiver
        self.data = data  # until the answer begins: an idle connection may turn out to be closed
        self.connection: Connection | None = None
        self.is_over = False

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
            self.connection.transport.pause_reading()

    def resume(self) -> None:
        if self.connection is not None:
            self.connection.transport.resume_reading()


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
                self._pool.connect(exchange)
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
        if end == KEEP and not self.transport.is_closing():
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


class ConnectionPool:
    """Connections to one server. Requests go out at once on an idle connection; else they wait, first come first served, for the
    next one that is free or new. Few are opened at a time: a server that accepts slowly is not helped by more."""

    __slots__ = ("_connect_s", "_dialling", "_host", "_idle", "_loop", "_port", "_tasks", "_tls", "_waiting")

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None, connect_s: float = CONNECT_S) -> None:
        """`connect_s`: how long a connection may take to come up, names and TLS included."""
        self._connect_s = connect_s
        self._host = host
        self._port = port
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._idle: deque[Connection] = deque()
        self._waiting: deque[Exchange] = deque()
        self._dialling = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, data: bytes, receiver: Receiver) -> Exchange:
        """Never raises; what goes wrong comes through `receiver.broken`."""
        exchange = Exchange(receiver, data)
        idle = self._idle
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():
                connection.send(exchange)
                return exchange
        self._waiting.append(exchange)
        self._dial()
        return exchange

    def connect(self, exchange: Exchange) -> None:
        """Send it on a fresh connection."""
        self._run(self._connect([exchange]))

    def keep(self, connection: Connection) -> None:
        """It is free: for whoever waits first."""
        waiting = self._waiting
        while waiting:
            exchange = waiting.popleft()
            if not exchange.is_over:
                connection.send(exchange)
                return
        if len(self._idle) < IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.transport.close()

    def forget(self, connection: Connection) -> None:
        if connection.exchange is None:
            try:
                self._idle.remove(connection)
            except ValueError:
                return  # it was not idle

    def close(self) -> None:
        while self._idle:
            self._idle.pop().transport.close()

    def _dial(self) -> None:
        while self._dialling < min(DIALLING_MAX, len(self._waiting)):
            self._dialling += 1
            self._run(self._connect(None))

    def _run(self, connecting: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(connecting)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, wanted: list[Exchange] | None) -> None:
        """Open one, for those in `wanted`, or None: for whoever waits first. Nobody who waits when a connection begins and fails
        would have had it: all of them are told."""
        concerned = list(self._waiting) if wanted is None else wanted
        connection: Connection | None = None
        reason = ""
        try:
            async with asyncio.timeout(self._connect_s):
                _, connection = await self._loop.create_connection(
                    lambda: Connection(self), self._host, self._port, ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )  # fmt: skip
        except (OSError, TimeoutError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "no answer in time"
        if wanted is None:
            self._dialling -= 1
        if connection is None:
            self._fail(concerned, f"cannot connect ({reason.lower()})")
        elif wanted is None or wanted[0].is_over:
            self.keep(connection)
        else:
            connection.send(wanted[0])
        self._dial()

    def _fail(self, exchanges: list[Exchange], cause: str) -> None:
        failed = [exchange for exchange in exchanges if not exchange.is_over and exchange.connection is None]
        for exchange in failed:
            exchange.is_over = True
        self._waiting = deque(exchange for exchange in self._waiting if not exchange.is_over)
        for exchange in failed:
            exchange.receiver.broken(cause, ran=False)
