"""One client connection: one exchange after the other, how it is refused, and how long it may take. Decides when a request is
answered and when the connection ends; what a request is, `http/reading.py` decides.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from cordee.http.exchange import CLOSE, STATUS_LINES, Answer, Exchange, HeadExchange, Successor
from cordee.http.inflow import Inflow
from cordee.http.reading import ANSWER, BODY, HEAD, IDLE, LINGER, Reading
from cordee.http.request import Limits, Rejection, Request

if TYPE_CHECKING:
    from cordee.http.server import Server

LINGER_S = 2.0  # what a refused client still sends is read and dropped this long, or it would not see the refusal
LAST_S = 1.5  # while the server ends: who was let in last has this long for a request, which is on its way already


class Connection(Reading):
    """One client connection."""

    __slots__ = ("_peer", "paused")

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._peer = ""  # the client's address, where connections are counted by it
        self.paused = False

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        server = self.server
        fault = server.door.turned_away()
        if fault is None and server.limits.connections_per_address_max:
            self._peer, fault = server.door.count(self.transport.get_extra_info("peername"))
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
            self.server.door.uncount(self._peer)
            self._peer = ""
        self._ahead = None
        self._aside = b""
        if self.inflow is not None:
            self._forget_body(self.inflow)
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

    # -- one exchange after the other

    def _begin(self, request: Request) -> None:
        self.state, self.since_s = ANSWER, self.server.now_s
        exchange = self._exchange = (Exchange if request.method != b"HEAD" else HeadExchange)(self, request)
        server = self.server
        server.turn.begun += 1
        if request.inflow is not None:
            self._begin_early(request, request.inflow, exchange)
            return
        server.handler.handle(request, exchange)

    def _begin_early(self, request: Request, inflow: Inflow, exchange: Exchange) -> None:
        """Its body is still to come, or some of it."""
        if not inflow.is_whole:
            self.inflow = inflow
            inflow.begin(self.transport, self.server.now_s)
        self.server.handler.handle(request, exchange)
        if self.inflow is not inflow:
            return
        if b"expect" in request.headers and request.version == "1.1":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self._is_held:  # it came behind another one
            self._is_held = False
            if not inflow.is_held:
                self.transport.resume_reading()

    def replace(self, exchange: Exchange) -> Exchange:
        """Another one takes the place of the exchange under way; returns it."""
        self._exchange = exchange
        return exchange

    def finished(self, keep_alive: bool) -> None:
        """The exchange has been answered."""
        self._exchange = None
        if self.inflow is not None:
            self._leave_body(self.inflow)
            return
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

    def _refuse_in_turn(self) -> None:
        """After the requests that came whole before it."""
        if self.state == LINGER:
            return  # the answer has left already
        if self.inflow is not None:
            self._break_off(self.inflow)
            return
        if self._coming is not None and self._ahead:
            self._ahead.pop()  # the body of the last one is what cannot be read
            self._coming = None
        if self._exchange is None and not self._ahead:
            assert self._fault is not None
            self._refuse(self._fault)

    def _break_off(self, inflow: Inflow) -> None:
        """The body of the request under way cannot be read to its end."""
        exchange, self._exchange = self._exchange, None
        is_answered = inflow.is_answered
        self._forget_body(inflow)
        if exchange is not None:
            exchange.lost()
        assert self._fault is not None
        if is_answered:
            self.transport.abort()  # an answer within an answer would be taken for a part of it
        else:
            self._refuse(self._fault)

    def _leave_body(self, inflow: Inflow) -> None:
        """The answer is whole before the request is: what still comes is read and dropped for a moment, or the client would not
        see the answer."""
        self._forget_body(inflow)
        self._fault = self._fault or Rejection(400, "the connection ends with the answer before")
        self.state, self.since_s = LINGER, self.server.now_s
        if not self.transport.is_closing():
            self.transport.write_eof()

    def _forget_body(self, inflow: Inflow) -> None:
        is_held = inflow.is_held
        self.inflow = self._coming = None
        inflow.leave()
        if is_held and not self.transport.is_closing():
            self.transport.resume_reading()

    def _refuse(self, fault: Rejection | Answer) -> None:
        answer = fault if isinstance(fault, Answer) else self.server.handler.rejected(fault)
        if not self.transport.is_closing():
            head = STATUS_LINES[answer.status] + self.server.date + answer.headers
            self.transport.write(head + b"content-length: %d\r\n" % len(answer.body) + CLOSE + b"\r\n" + answer.body)
            self.transport.write_eof()
            self.state, self.since_s = LINGER, self.server.now_s

    def leave(self, now_s: float, limits: Limits) -> None:
        """The server ends: a connection without a request does so at once, another one with its answer."""
        if self._successor is None and self.state == IDLE and not self.paused and not self._aside:
            self.transport.close()
        else:
            self.swept(now_s, limits)

    def swept(self, now_s: float, limits: Limits) -> None:
        """Keep the limits on time."""
        if self._aside:
            return  # the client is waiting for us
        if self._successor is not None:
            self._successor.swept(now_s, closing=self.server.closing)
            return
        waited_s = now_s - self.since_s
        if self.inflow is not None:
            if self.inflow.is_late(now_s, limits.body_timeout_s):
                self._fault = Rejection(408, "the body of the request did not come in time")
                self._break_off(self.inflow)
        elif self.paused:
            if waited_s > limits.idle_timeout_s:
                self.transport.abort()
        elif self.state == LINGER:
            if waited_s > LINGER_S:
                self.transport.abort()
        elif self.state == IDLE:
            if waited_s > (LAST_S if self.server.closing else limits.idle_timeout_s):
                self.transport.close()
        elif (self.state == HEAD and waited_s > limits.header_timeout_s) or (
            self.state == BODY and waited_s > limits.body_timeout_s
        ):
            self._fault = Rejection(408, "the request did not come in time")
            self._refuse(self._fault)
