"""The client's side of an answer that another server gives: it passes as it is.

A whole answer is passed on when it is whole, so that a broken one can be asked for again; a stream is passed on as it comes.
"""

from __future__ import annotations

from collections.abc import Sequence

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.flow.answer import Answer as FlowAnswer
from cordee.flow.facts import CANCELLED, GONE, Fact
from cordee.flow.mailbox import Mailbox
from cordee.gateway.replies import JSON
from cordee.gateway.sinks import EVENTS
from cordee.http.client import Pausable
from cordee.http.exchange import Answer as HttpAnswer
from cordee.http.exchange import Outlet
from cordee.wire import errors
from cordee.wire.shape import error_event

PASSED_ON = frozenset({b"content-type", b"retry-after", b"x-cordee-served-by"})
FORWARD_BYTES_MAX = 64 * 1024 * 1024  # of an answer that does not stream


class ForwardSink:
    """One answer of another server."""

    __slots__ = (
        "_begun", "_box", "_exchange", "_head", "_headers", "_parts", "_size", "_stream", "answer", "is_told", "status",
    )  # fmt: skip

    def __init__(self, exchange: Outlet, box: Mailbox[Fact], headers: bytes) -> None:
        self._exchange = exchange
        self._box = box
        self._headers = headers
        self._head = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._stream = self._begun = False
        self.is_told = False  # the head has left, with comments
        self.status = 0
        self.answer: FlowAnswer | None = None  # set once it exists, to hold the upstream back for a slow client

    def mark(self, lines: bytes) -> None:
        """Further header lines of the answer, before anything of it has left."""
        self._headers += lines

    def comment(self, line: bytes) -> None:
        """A comment in a stream of which nothing has left yet: its status leaves with it, so errors are events from now on."""
        if not self.is_told:
            self.is_told = True
            self._exchange.begin(200, self._headers + EVENTS)
        self._exchange.write(line)

    # -- port Sink

    def token(self, choice: int, token: int, logprobs: TokenLogprobs | None) -> bool:
        raise AssertionError("another server sends bytes, not tokens")

    def finish(self, choice: int, why: Finish) -> None:
        raise AssertionError("another server sends bytes, not tokens")

    def text(self, choice: int, text: str, why: Finish) -> None:
        raise AssertionError("a forwarded answer is bytes, not text")

    def usage(self, tokens_in: int, tokens_out: int) -> None:
        raise AssertionError("a forwarded answer is bytes, not text")

    def cached(self, tokens: int) -> None:
        raise AssertionError("another server says in its answer what it had computed")

    def result(self, choice: int, data: bytes) -> None:
        raise AssertionError("a forwarded answer is bytes, not numbers")

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        if self._begun:
            return  # it goes on with what has left
        self.status = status
        self._parts.clear()  # of an attempt before
        self._size = 0
        head = b""
        for header in headers:
            if header[0] in PASSED_ON:
                head += b"%s: %s\r\n" % header
        self._head = head
        self._stream = b"text/event-stream" in head and (status == 200 or not self.is_told)

    def body(self, data: bytes) -> bool:
        if not self._stream:
            self._size += len(data)
            if self._size <= FORWARD_BYTES_MAX:
                self._parts.append(data)
            return False
        exchange = self._exchange
        if not self._begun:
            self._begun = True
            if not self.is_told:
                exchange.begin(self.status, self._headers + self._head)
        exchange.write(data)
        if exchange.is_slow:
            running = self.answer.running if self.answer is not None else None
            if isinstance(running, Pausable):
                running.pause()
        return True

    def complete(self) -> None:
        self.answer = None  # no cycle stays behind for the collector to find
        if self._begun:
            self._exchange.end()
        elif self._size > FORWARD_BYTES_MAX:
            what = f"the upstream server's answer is longer than {FORWARD_BYTES_MAX} bytes; ask for a stream"
            self.fail(502, errors.body(502, what), b"")
        else:
            parts = self._parts
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            answer = HttpAnswer(self.status, self._headers + self._head, body)
            if self.is_told:
                self._exchange.fail(answer, error_event(b" ".join(body.split())))  # an event is one line
            else:
                self._exchange.answer(answer)

    def fail(self, status: int, body: bytes, headers: bytes) -> None:
        self.answer = None
        answer = HttpAnswer(status, self._headers + JSON + headers, body)
        if self._begun or self.is_told:
            self._exchange.fail(answer, error_event(body))
        else:
            self._exchange.answer(answer)

    @property
    def so_far(self) -> bytes:
        """What has come of an answer that does not stream."""
        return b"".join(self._parts)

    # -- http.server.Listener

    def gone(self) -> None:
        self._box.post(GONE)
        self.answer = None

    def cancelled(self) -> None:
        self._box.post(CANCELLED)
        self.answer = None

    def writable(self) -> None:
        running = self.answer.running if self.answer is not None else None
        if isinstance(running, Pausable):
            running.resume()
