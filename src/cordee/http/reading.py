"""Bytes become requests: what a client sends is parsed with llhttp, bounded, and refused where its framing is doubtful. Decides where a
request ends and which are refused; when it is answered, and what the refusal looks like, `http/connection.py` decides.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING

import httptools

from cordee.http.exchange import Answer, Exchange, Successor
from cordee.http.inflow import Inflow
from cordee.http.request import (
    NO_SWITCH,
    URL_BYTES_MAX,
    Rejection,
    Request,
    head_fault,
    length_fault,
    length_of_head_fault,
    repeated,
)
from cordee.http.turn import REQUESTS_MAX

if TYPE_CHECKING:
    from cordee.http.server import Server

HEAD_END = b"\r\n\r\n"
HEADS_MAX = 1024  # heads remembered, for at most one sweep: they hold keys
HEAD_KEPT_BYTES_MAX = 2048  # longer ones are rare, and not worth the memory
PASSING = {b"transfer-encoding", b"expect", b"connection"}  # such heads are parsed anew each time
AHEAD_MAX = 32  # pipelined requests kept; a client that sends more is not one of ours
CODING_MAX = 8  # bytes of chunked coding a byte of body may cost; a chunk of one byte costs six
READ_ANYWAY_BYTES = 64 * 1024  # a refused request with a smaller body is read to its end and the connection kept
HEAD, BODY, IDLE, ANSWER, LINGER = range(5)


class Reading(asyncio.Protocol):
    """The reading half of a client's connection."""

    __slots__ = (
        "_ahead", "_aside", "_body", "_body_bytes", "_chunk_bytes", "_coming", "_exchange", "_fault", "_head_bytes", "_headers",
        "_is_held", "_next_state", "_parser", "_raw_bytes", "_request", "_successor", "_target", "inflow", "server", "since_s",
        "state", "transport",
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
        self._aside = b""  # what was sent while others had their turn
        self._coming: Inflow | None = None  # the body that is being read, if it is one to be pushed on
        self.inflow: Inflow | None = None  # the same, once the request is answered to whom it belongs
        self._fault: Rejection | Answer | None = None
        self._successor: Successor | None = None  # what the connection has become
        self._is_held = False  # not read from, until the answers under way are complete
        self._next_state = IDLE  # how far a request has come that began behind the one that is answered
        self.state = IDLE
        self.since_s = server.now_s

    @abstractmethod
    def _begin(self, request: Request) -> None:
        """A request is complete, and it is its turn."""

    @abstractmethod
    def _refuse_in_turn(self) -> None:
        """`_fault` is answered, after the requests that came whole before it; nothing more is read."""

    def data_received(self, data: bytes) -> None:
        if self._fault is not None:
            return  # the connection is closing: nothing that follows is trusted
        if self.server.turn.begun >= REQUESTS_MAX:
            self._put_aside(data)
            return
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
        if self._exchange is not None and self.inflow is None:
            # One read ahead is enough: what a client sends meanwhile has a bound.
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
        elif self.state == BODY or self._coming is not None:
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

    def _put_aside(self, data: bytes) -> None:
        if self._aside:
            self._aside += data
            self._is_held = True
            self.transport.pause_reading()  # two reads are enough: what a client sends meanwhile has a bound
        else:
            self._aside = data
            self.server.turn.hold(self)

    def release(self) -> None:
        """What was put aside has its turn."""
        data, self._aside = self._aside, b""
        if not data or self.transport.is_closing():
            return  # the client has gone, or will not be answered any more
        if self._is_held and (self._exchange is None or self.inflow is not None):
            self._is_held = False
            if self.inflow is None or not self.inflow.is_held:
                self.transport.resume_reading()
        if self._successor is None:
            self.data_received(data)
        else:
            self._successor.data_received(data)

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
        if fault is not None:
            self._fault = fault
            return
        refusal = server.handler.admit(request)
        inflow = request.inflow
        if length > (server.limits.body_bytes_max if inflow is None else inflow.bytes_max or length):
            self._fault = self._too_large(server.limits.body_bytes_max if inflow is None else inflow.bytes_max)
            return
        if refusal is not None:
            request.caller, request.inflow = refusal, None
            if length > READ_ANYWAY_BYTES or b"transfer-encoding" in headers:
                self._fault = refusal
                return
        elif inflow is not None:
            self._coming = inflow
            self._is_next(request)
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
        if self._coming is not None:
            if not self._coming.take(body):
                self._fault = self._too_large(self._coming.bytes_max)
        elif self._body_bytes > self.server.limits.body_bytes_max:
            self._fault = self._too_large(self.server.limits.body_bytes_max)
        elif not self._body:
            self._body = body
        elif isinstance(self._body, list):
            self._body.append(body)
        else:
            self._body = [self._body, body]

    def on_message_complete(self) -> None:
        if self._fault is not None:
            return
        if self._coming is not None:
            coming, self._coming = self._coming, None
            self.inflow = None
            self._next_state = IDLE
            coming.end()
            return
        request, body = self._request, self._body
        request.body = b"".join(body) if isinstance(body, list) else body
        self._body = b""
        self._next_state = IDLE
        self._is_next(request)

    def _is_next(self, request: Request) -> None:
        """It begins, or waits for those before it."""
        if self._exchange is None and not self._ahead:
            self._begin(request)
            return
        if self._ahead is None:
            self._ahead = deque()
        self._ahead.append(request)
        if len(self._ahead) >= AHEAD_MAX:
            self._fault = Rejection(400, f"more than {AHEAD_MAX} requests were sent ahead")

    def _too_large(self, bytes_max: int) -> Rejection:
        return Rejection(413, f"the body is longer than {bytes_max} bytes")
