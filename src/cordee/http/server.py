"""The server side of HTTP/1.1: where it listens, all its connections, and the moment at which it ends. Decides nothing about requests.

What is read becomes a request in `http/reading.py`; `http/connection.py` answers one after the other; `http/accept.py` lets
connections in, and `http/door.py` says how many. Limits on time are kept by one sweep a second over all connections, which costs less
than a timer each.
"""

from __future__ import annotations

import asyncio
import socket
from email.utils import formatdate
from typing import Protocol

from cordee.http.accept import Acceptor
from cordee.http.connection import Connection
from cordee.http.door import Door
from cordee.http.exchange import Answer, Exchange
from cordee.http.request import Limits, Rejection, Request
from cordee.http.turn import Turn

SWEEP_S = 1.0
BACKLOG = (
    4096  # who may wait in the kernel to be accepted; it grants as many as net.core.somaxconn, which is this by default
)


class Handler(Protocol):
    """What the server is for."""

    def admit(self, request: Request) -> Answer | None:
        """Called when the head is complete, before any body is read. An answer refuses the request: a large body is not
        read at all; after a small one `handle` finds the answer in `request.caller`. Whoever sets `request.inflow` gets the
        body as it comes, within that inflow's limit."""
        ...

    def handle(self, request: Request, exchange: Exchange) -> None:
        """Called when the request is complete; one with an inflow, when its head is."""
        ...

    def rejected(self, rejection: Rejection) -> Answer:
        """The body for a request that could not be understood."""
        ...


class Server:
    """All connections of one address."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self.handler = handler
        self.limits = limits
        self.connections: set[Connection] = set()
        self.door = Door(self.connections, limits)
        self.heads: dict[bytes, tuple[Request, int]] = {}
        self.switching: set[bytes] = set()  # paths at which a connection may change its protocol
        self.closing = False
        self.now_s = 0.0
        self.date = b""
        self._loop = asyncio.get_running_loop()
        self.turn = Turn(self._loop)
        self._acceptors: list[Acceptor] = []
        self._sweep()

    async def listen(self, host: str, port: int, backlog: int = BACKLOG) -> None:
        """A name may have several addresses: on each of them. Raises OSError when one cannot be had."""
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listeners: list[socket.socket] = []
        try:
            for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
                listeners.append(socket.create_server(address, family=family, backlog=backlog))
        except OSError:
            for listener in listeners:
                listener.close()
            raise
        self._acceptors += [Acceptor(listener, lambda: Connection(self)) for listener in listeners]

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where it listens: host and port of each."""
        return [acceptor.address for acceptor in self._acceptors]

    @property
    def pauses(self) -> int:
        """How often accepting paused, because there were no descriptors."""
        return sum(acceptor.pauses for acceptor in self._acceptors)

    def follow(self, limits: Limits) -> None:
        """From now on these. Connections that are open keep the buffer they were given."""
        self.limits = self.door.limits = limits
        self.heads.clear()  # they were judged by the limits before

    def stop_accepting(self) -> None:
        """No new connections; those that are idle end, the others end with their answer. Who was connected already, and not yet
        accepted, gets an answer too."""
        self.closing = True
        for connection in list(self.connections):
            connection.leave(self.now_s, self.limits)
        for acceptor in self._acceptors:
            acceptor.close()

    def abort(self) -> None:
        """End what is left."""
        for connection in list(self.connections):
            connection.transport.abort()

    def _sweep(self) -> None:
        self.now_s = self._loop.time()
        self.heads.clear()
        self.date = b"date: %s\r\n" % formatdate(usegmt=True).encode()
        for connection in list(self.connections):
            connection.swept(self.now_s, self.limits)
        self._loop.call_later(SWEEP_S, self._sweep)
