"""The connections to one server: who gets which, how many are opened at a time, and who hears of a failure.

A request goes out at once on an idle connection; else it waits, first come first served, for the next one that is free or new. Few are
opened at a time: a server that accepts slowly is not helped by more.

A connection that does not come up says one of two things. *Nobody is there* (refused, unreachable, no such name, no answer in time, the
wrong certificate): who waited when it was begun would have met the same, and all of them are told, unless another connection has come up
meanwhile. *This one failed* (reset, or this host has no descriptor or port left): whoever waits first would have had it, and is told.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections import deque
from collections.abc import Iterator

from cordee.http.client import Connection, Exchange, Receiver, Source, Streaming
from cordee.http.names import Name, ask_system

CONNECT_S = 2.0
IDLE_MAX = 4096  # idle connections kept: of thousands under way, hundreds end in one turn of the loop and begin again
DIALLING_MAX = 256  # connections that are being opened at once
OURS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EAGAIN}
)  # what this host, or the queue before a unix socket, has no more of


class Line(deque[Exchange]):
    """Those who wait, in their order. Those who have given up stay in it, and are passed over when it is their turn."""

    __slots__ = ("_gone", "mark")

    def __init__(self) -> None:
        super().__init__()
        self.mark = 0  # how many have ever come
        self._gone = 0

    def append(self, exchange: Exchange) -> None:
        self.mark += 1
        super().append(exchange)

    def first(self) -> Exchange | None:
        """Takes it out."""
        while self:
            self._gone += 1
            exchange = self.popleft()
            if not exchange.is_over:
                return exchange
        return None

    def until(self, mark: int) -> Iterator[Exchange]:
        """Takes out those who were there when `mark` was that."""
        while self._gone < mark:
            self._gone += 1
            yield self.popleft()


class ConnectionPool:
    """All connections to one server."""

    __slots__ = (
        "_again", "_connect_s", "_dialling", "_host", "_idle", "_idle_max", "_loop", "_name", "_path", "_port", "_tasks", "_tls",
        "_up", "_waiting",
    )  # fmt: skip

    def __init__(
        self, host: str, port: int, tls: ssl.SSLContext | None, connect_s: float = CONNECT_S, path: str = ""
    ) -> None:  # fmt: skip
        """`connect_s`: how long a connection may take to come up, names and TLS included. `path`: of a unix socket, which stands
        for all the rest."""
        self._path = path
        self._connect_s = connect_s
        self._host = host
        self._port = port
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._name = Name(host, port, ask_system, self._loop.time)
        self._idle: dict[Connection, None] = {}  # the last one that was used is at the end, and is used first
        self._idle_max = IDLE_MAX
        self._waiting = Line()
        self._again = Line()  # those who must have a fresh connection
        self._dialling = 0
        self._up = 0  # connections that ever came up
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, data: bytes, receiver: Receiver) -> Exchange:
        """Never raises; what goes wrong comes through `receiver.broken`."""
        exchange = Exchange(receiver, data)
        idle = self._idle
        while idle:
            connection, _ = idle.popitem()
            if not connection.transport.is_closing():
                connection.send(exchange)
                return exchange
        self._waiting.append(exchange)
        self._dial()
        return exchange

    def send_once(self, data: bytes, receiver: Receiver, source: Source | None = None) -> Exchange:
        """A request that must not be sent a second time: on a fresh connection, as an idle one might turn out to be closed.
        `source`: sends its body, of which `data` is the head only."""
        exchange = Exchange(receiver, data) if source is None else Streaming(receiver, data, source)
        self.send_again(exchange)
        return exchange

    def send_again(self, exchange: Exchange) -> None:
        """On a fresh connection."""
        self._again.append(exchange)
        self._dial()

    def keep(self, connection: Connection) -> None:
        """It is free: for whoever waits first."""
        if self._waiting:
            exchange = self._waiting.first()
            if exchange is not None:
                connection.send(exchange)
                return
        if len(self._idle) < self._idle_max:
            self._idle[connection] = None
        else:
            connection.transport.close()

    def forget(self, connection: Connection) -> None:
        """It has ended."""
        self._idle.pop(connection, None)

    def close(self) -> None:
        """No connection stays idle from now on. Requests under way, and those who wait, go on."""
        self._idle_max = 0
        while self._idle:
            connection, _ = self._idle.popitem()
            connection.transport.close()

    def _dial(self) -> None:
        while self._dialling < min(DIALLING_MAX, len(self._waiting) + len(self._again)):
            self._dialling += 1
            task = self._loop.create_task(self._connect(self._waiting.mark, self._again.mark, self._up))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self, waiting: int, again: int, up: int) -> None:
        """Open one. The marks say who waits when it begins, `up` how many had come up."""
        connection: Connection | None = None
        fault: OSError | None = None
        try:
            async with asyncio.timeout(self._connect_s):
                connection = await self._open()
        except OSError as error:  # TimeoutError is one
            fault = error
        self._dialling -= 1
        if connection is not None:
            self._up += 1
            exchange = self._again.first()
            if exchange is not None:
                connection.send(exchange)
            else:
                self.keep(connection)
        elif fault is not None:
            is_nobody = self._up == up and is_everybodys(fault)
            self._fail(
                [*self._again.until(again), *self._waiting.until(waiting)] if is_nobody else self._first(), fault
            )
        self._dial()

    async def _open(self) -> Connection:
        """To the socket, or to the first of the name's addresses that takes it. Raises OSError."""
        if self._path:
            _, connection = await self._loop.create_unix_connection(lambda: Connection(self), self._path)
            return connection
        tried: set[str] = set()
        fault = OSError(f"{self._host} has no address")
        while left := [address for address in await self._name.addresses() if address not in tried]:
            tried.add(left[0])
            try:
                async with asyncio.timeout(self._connect_s / len(left)):
                    _, connection = await self._loop.create_connection(
                        lambda: Connection(self), left[0], self._port, ssl=self._tls,
                        server_hostname=self._host if self._tls else None,
                    )  # fmt: skip
                    return connection
            except OSError as error:
                fault = error
                self._name.failed(left[0])
            except asyncio.CancelledError:  # the time for all of them is over
                self._name.failed(left[0])
                raise
        raise fault

    def _first(self) -> list[Exchange]:
        exchange = self._again.first() or self._waiting.first()
        return [exchange] if exchange is not None else []

    def _fail(self, exchanges: list[Exchange], fault: OSError) -> None:
        for exchange in exchanges:
            if not exchange.is_over:  # what one does when it is told may end others
                exchange.is_over = True
                exchange.receiver.broken(f"cannot connect ({reason(fault)})", ran=False)


def is_everybodys(fault: OSError) -> bool:
    """Whether a connection that was begun in its place would have failed likewise."""
    match fault:
        case ssl.SSLCertVerificationError():
            return True
        case ssl.SSLError() | ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError():
            return False
        case _:
            return fault.errno not in OURS


def reason(fault: OSError) -> str:
    """Why a connection did not come up, in a few words."""
    if isinstance(fault, TimeoutError) and not fault.errno:
        return "no answer in time"
    return (fault.strerror or str(fault) or "it was ended at once").lower()
