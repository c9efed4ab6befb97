"""The server side of HTTP/1.1: bytes in, requests to the handler, answers out.

One connection handles one request at a time; what a client sends ahead waits. A request whose framing is doubtful is
refused with 400 and the connection closed. Limits on time are kept by one sweep a second over all connections, which costs
less than a timer each.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from email.utils import formatdate
from typing import Protocol, cast

import httptools

from cordee.http.exchange import CLOSE, STATUS_LINES, Answer, Exchange, HeadExchange, Successor
from cordee.http.request import (
    NO_SWITCH,
    URL_BYTES_MAX,
    Limits,
    Rejection,
    Request,
    head_fault,
    length_fault,
    length_of_head_fault,
    repeated,
)

ACCEPTORS = 16  # connections accepted in one turn of the loop
SWEEP_S = 1.0
HEAD_END = b"\r\n\r\n"
HEADS_MAX = 1024  # heads remembered, for at most one sweep: they hold keys
HEAD_KEPT_BYTES_MAX = 2048  # longer ones are rare, and not worth the memory
PASSING = {b"transfer-encoding", b"expect", b"connection"}  # such heads are parsed anew each time
AHEAD_MAX = 32  # pipelined requests kept; a client that sends more is not one of ours


HEAD, BODY, IDLE, ANSWER, LINGER = range(5)
LINGER_S = 2.0  # what a refused client still sends is read and dropped this long, or it would not see the refusal
CODING_MAX = 8  # bytes of chunked coding a byte of body may cost; a chunk of one byte costs six
READ_ANYWAY_BYTES = 64 * 1024  # a refused request with a smaller body is read to its end and the connection kept


class Handler(Protocol):
    """What the server is for."""

    def admit(self, request: Request) -> Answer | None:
        """Called when the head is complete, before any body is read. An answer refuses the request: a large body is not
        read at all; after a small one `handle` finds the answer in `request.caller`."""
        ...

    def handle(self, request: Request, exchange: Exchange) -> None:
        """Called when the request is complete."""
        ...

    def rejected(self, rejection: Rejection) -> Answer:
        """The body for a request that could not be understood."""
        ...


class Connection(asyncio.Protocol):
    """One client connection."""

    __slots__ = (
        "_ahead", "_body", "_body_bytes", "_chunk_bytes", "_exchange", "_fault", "_head_bytes", "_headers", "_is_held",
        "_next_state", "_parser", "_peer", "_raw_bytes", "_request", "_successor", "_target", "paused", "server", "since_s", "state",
        "transport",
    )  # fmt: skip

    def __init__(self, server: Server) -> None:
        self.server = server
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # set before anything else happens
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request = None  # type: ignore[assignment]  # set when a head is complete
        self._headers: dict[bytes, bytes] = {}
        self._target = b""
        self._body: bytes | list[bytes] = b""
        self._body_bytes = 0
        self._head_bytes = self._chunk_bytes = self._raw_bytes = 0
        self._exchange: Exchange | None = None
        self._ahead: deque[Request] | None = None
        self._fault: Rejection | Answer | None = None
        self._successor: Successor | None = None  # what the connection has become
        self._is_held = False  # not read from, until the answers under way are complete
        self._next_state = IDLE  # how far a request has come that began behind the one that is answered
        self._peer = ""  # the client's address, where connections are counted by it
        self.paused = False
        self.state = IDLE
        self.since_s = server.now_s

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        server = self.server
        fault = server.turned_away()
        if fault is None and server.limits.connections_per_address_max:
            self._peer, fault = server.count(self.transport.get_extra_info("peername"))
        if fault is not None:
            self._fault = fault
            self._refuse(fault)
            self.transport.close()  # no lingering: the limit is there to keep descriptors free
            return
        server.connections.add(self)
        self.transport.set_write_buffer_limits(high=server.limits.write_buffer_bytes_max)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server.connections.discard(self)
        if self._peer:
            self.server.uncount(self._peer)
            self._peer = ""
        self._ahead = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost()

    def eof_received(self) -> bool:
        return False  # a client that half-closes is gone: keeping its slot busy would cost those who wait

    def pause_writing(self) -> None:
        self.paused = True
        self.since_s = self.server.now_s

    def resume_writing(self) -> None:
        self.paused = False
        exchange = self._exchange
        if exchange is not None and exchange.listener is not None:
            exchange.listener.writable()

    def data_received(self, data: bytes) -> None:
        if self._fault is not None:
            return  # the connection is closing: nothing that follows is trusted
        head, before = b"", self._request
        if self.state == IDLE:
            end = data.find(HEAD_END) + len(HEAD_END)
            if end >= len(HEAD_END):
                head = data[:end]
                known = self.server.heads.get(head)
                if known is not None and known[1] == len(data) - end:
                    self._again(known[0], data[end:])
                    return
        self._chunk_bytes = len(data)
        if self._exchange is not None:  # one read ahead is enough: what a client sends meanwhile has a bound
            self._is_held = True
            self.transport.pause_reading()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if self._successor is not None:
                rest = data[upgrade.args[0] :]  # sent ahead, in the new protocol already
                if rest:
                    self._successor.data_received(rest)
                return
            if self.transport.is_closing():
                return  # it was refused, and that is answered
            self._fault = self._fault or Rejection(400, NO_SWITCH)
        except httptools.HttpParserError as error:
            if self._fault is None:
                self._fault = Rejection(400, f"this is not HTTP/1.1: {error}")
        if self._fault is not None:
            self._refuse_in_turn()
        elif self.state == BODY:
            self._raw_bytes += len(data)
            if self._raw_bytes > CODING_MAX * self._body_bytes + self.server.limits.header_bytes_max:
                self._fault = Rejection(400, "the body is nearly all framing; send larger chunks, and no trailers")
                self._refuse_in_turn()
        elif self.state == HEAD:
            self._head_bytes += len(data)
            if len(self._target) > URL_BYTES_MAX:
                self._fault = Rejection(414, f"the URL is longer than {URL_BYTES_MAX} bytes")
                self._refuse_in_turn()
            elif self._head_bytes > self.server.limits.header_bytes_max:
                self._fault = Rejection(431, f"the head is longer than {self.server.limits.header_bytes_max} bytes")
                self._refuse_in_turn()
        elif head and self._request is not before and len(head) <= HEAD_KEPT_BYTES_MAX:
            self._remember(head, len(data) - len(head))

    def _remember(self, head: bytes, length: int) -> None:
        """Clients send the same head again and again: what was found in one that came whole, with its whole body and
        nothing behind it, holds for every one that equals it byte for byte."""
        request, heads = self._request, self.server.heads
        if len(request.body) == length and len(heads) < HEADS_MAX and PASSING.isdisjoint(request.headers):
            like = Request(request.method, request.version, request.headers, request.keep_alive)
            like.path, like.query = request.path, request.query  # and not the body: it may be large
            like.remembered = {}
            heads[head] = like, length

    def _again(self, like: Request, body: bytes) -> None:
        request = Request(like.method, like.version, like.headers, like.keep_alive)
        request.path, request.query, request.body = like.path, like.query, body
        request.remembered = like.remembered
        refusal = self.server.handler.admit(request)
        if refusal is not None:
            request.caller = refusal
        self._begin(request)

    # -- httptools callbacks

    def on_message_begin(self) -> None:
        self._headers = {}
        self._target = b""
        self._head_bytes = 0
        if self._exchange is None:
            self.state, self.since_s = HEAD, self.server.now_s
        else:
            self._next_state = HEAD

    def on_url(self, url: bytes) -> None:
        self._target = self._target + url if self._target else url

    def on_header(self, name: bytes, value: bytes | None) -> None:
        # llhttp has checked that both hold nothing but what RFC 9110 allows.
        name = name.lower()
        if name in self._headers:
            self._fault = self._fault or repeated(self._headers, name, value or b"")
        else:
            self._headers[name] = value or b""

    def on_headers_complete(self) -> None:
        parser, headers, server = self._parser, self._headers, self.server
        keep_alive = parser.should_keep_alive()
        # Without a Connection header only HTTP/1.1 keeps a connection: no need to ask the parser.
        version = "1.1" if keep_alive and b"connection" not in headers else parser.get_http_version()
        request = self._request = Request(parser.get_method(), version, headers, keep_alive)
        self._body, self._body_bytes, self._raw_bytes = b"", 0, 0
        self._headers = {}  # what follows the body are trailers: read, bounded and dropped
        fault = self._fault or head_fault(request, self._target, server.switching)
        if self._head_bytes + self._chunk_bytes > server.limits.header_bytes_max and fault is None:
            fault = length_of_head_fault(headers, server.limits)
        if b"upgrade" in headers and fault is None:
            request.keep_alive = False  # refused or not: what follows is not HTTP/1.1
            if self._exchange is not None or self._ahead:
                fault = Rejection(400, "a request to change the protocol must not be sent ahead of an answer")
        length = 0
        if fault is None and b"content-length" in headers:
            fault = length_fault(headers[b"content-length"])
            if fault is None:
                length = int(headers[b"content-length"])
                if length > server.limits.body_bytes_max:
                    fault = self._too_large()
        if fault is not None:
            self._fault = fault
            return
        refusal = server.handler.admit(request)
        if refusal is not None:
            request.caller = refusal
            if length > READ_ANYWAY_BYTES or b"transfer-encoding" in headers:
                self._fault = refusal
                return
        if self._exchange is not None:
            self._next_state = BODY
            return
        self.state = BODY
        if b"expect" in headers and version == "1.1" and not self._ahead:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._fault is not None:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self.server.limits.body_bytes_max:
            self._fault = self._too_large()
        elif not self._body:
            self._body = body
        elif isinstance(self._body, list):
            self._body.append(body)
        else:
            self._body = [self._body, body]

    def on_message_complete(self) -> None:
        if self._fault is not None:
            return
        request, body = self._request, self._body
        request.body = b"".join(body) if isinstance(body, list) else body
        self._body = b""
        self._next_state = IDLE
        if self._exchange is None and not self._ahead:
            self._begin(request)
            return
        if self._ahead is None:
            self._ahead = deque()
        self._ahead.append(request)
        if len(self._ahead) >= AHEAD_MAX:
            self._fault = Rejection(400, f"more than {AHEAD_MAX} requests were sent ahead")

    # -- one exchange after the other

    def _begin(self, request: Request) -> None:
        self.state, self.since_s = ANSWER, self.server.now_s
        exchange = self._exchange = (Exchange if request.method != b"HEAD" else HeadExchange)(self, request)
        self.server.handler.handle(request, exchange)

    def replace(self, exchange: Exchange) -> Exchange:
        """Another one takes the place of the exchange under way; returns it."""
        self._exchange = exchange
        return exchange

    def finished(self, keep_alive: bool) -> None:
        """The exchange has been answered."""
        self._exchange = None
        self.state, self.since_s = self._next_state, self.server.now_s
        if not keep_alive:
            self.transport.close()
        elif self._ahead:
            self._begin(self._ahead.popleft())
        elif self._fault is not None:
            self._refuse(self._fault)
        elif self._is_held:
            self._is_held = False
            if not self.transport.is_closing():
                self.transport.resume_reading()

    def switch(self, head: bytes, successor: Successor) -> None:
        """The exchange under way changes the connection's protocol. The server goes on to count and to sweep it."""
        self._exchange = None
        self._successor = successor
        self.transport.write(head)
        successor.inherit(self, self.transport)
        self.transport.set_protocol(cast(asyncio.Protocol, successor))

    def _too_large(self) -> Rejection:
        return Rejection(413, f"the body is longer than {self.server.limits.body_bytes_max} bytes")

    def _refuse_in_turn(self) -> None:
        """After the requests that came whole before it."""
        if self._exchange is None and not self._ahead:
            assert self._fault is not None
            self._refuse(self._fault)

    def _refuse(self, fault: Rejection | Answer) -> None:
        answer = fault if isinstance(fault, Answer) else self.server.handler.rejected(fault)
        if not self.transport.is_closing():
            head = STATUS_LINES[answer.status] + self.server.date + answer.headers
            self.transport.write(head + b"content-length: %d\r\n" % len(answer.body) + CLOSE + b"\r\n" + answer.body)
            self.transport.write_eof()
            self.state, self.since_s = LINGER, self.server.now_s

    def swept(self, now_s: float, limits: Limits) -> None:
        """Keep the limits on time."""
        if self._successor is not None:
            self._successor.swept(now_s, closing=self.server.closing)
            return
        waited_s = now_s - self.since_s
        if self.paused:
            if waited_s > limits.idle_timeout_s:
                self.transport.abort()
        elif self.state == LINGER:
            if waited_s > LINGER_S:
                self.transport.abort()
        elif self.state == IDLE:
            if waited_s > limits.idle_timeout_s or self.server.closing:
                self.transport.close()
        elif (self.state == HEAD and waited_s > limits.header_timeout_s) or (
            self.state == BODY and waited_s > limits.body_timeout_s
        ):
            self._fault = Rejection(408, "the request did not come in time")
            self._refuse(self._fault)


class Server:
    """All connections of one listening socket."""

    def __init__(self, handler: Handler, limits: Limits) -> None:
        self.handler = handler
        self.limits = limits
        self.connections: set[Connection] = set()
        self.heads: dict[bytes, tuple[Request, int]] = {}
        self.by_address: dict[str, int] = {}
        self.switching: set[bytes] = set()  # paths at which a connection may change its protocol
        self.closing = False
        self.now_s = 0.0
        self.date = b""
        self._loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._sockets: asyncio.Server | None = None
        self._acceptors: list[asyncio.Server] = []  # further handles of the same sockets
        self._sweep()

    async def listen(self, host: str, port: int, backlog: int = 4096) -> None:
        """Raises OSError when the address cannot be had."""

        def connection() -> Connection:
            return Connection(self)

        first = self._sockets = await self._loop.create_server(
            connection, host, port, backlog=backlog, reuse_address=True
        )
        # The event loop accepts one connection a turn from each handle: a crowd that comes back would wait for many turns.
        for bound in first.sockets:
            for _ in range(ACCEPTORS - 1):
                again = socket.socket(fileno=os.dup(bound.fileno()))
                self._acceptors.append(await self._loop.create_server(connection, sock=again, backlog=backlog))

    def follow(self, limits: Limits) -> None:
        """From now on these. Connections that are open keep the buffer they were given."""
        self.limits = limits
        self.heads.clear()  # they were judged by the limits before

    def turned_away(self) -> Rejection | None:
        """Why no connection can be had at the moment, whoever asks."""
        if self.closing:
            return Rejection(503, "this gateway is being ended; try another one")
        if len(self.connections) >= self.limits.connections_max:
            return Rejection(
                503, f"this gateway has {self.limits.connections_max} connections, as many as it may; try again"
            )
        return None

    def count(self, peername: tuple[object, ...] | str | None) -> tuple[str, Rejection | None]:
        """One more connection of a client's address, or why not. What has no address is not counted."""
        if not isinstance(peername, tuple):
            return "", None
        address, most = str(peername[0]), self.limits.connections_per_address_max
        have = self.by_address.get(address, 0)
        if have >= most:
            return "", Rejection(
                429,
                f"your address has {have} connections to this gateway, as many as one may; use those, or close some",
            )
        self.by_address[address] = have + 1
        return address, None

    def uncount(self, address: str) -> None:
        left = self.by_address[address] - 1
        if left:
            self.by_address[address] = left
        else:
            del self.by_address[address]

    def stop_accepting(self) -> None:
        """No new connections; those that are idle end, the others end with their answer."""
        self.closing = True
        if self._sockets is not None:
            self._sockets.close()
        for acceptor in self._acceptors:
            acceptor.close()
        for connection in list(self.connections):
            connection.swept(self.now_s, self.limits)

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
