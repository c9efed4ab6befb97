"""The client's side of an answer of our own workers: tokens become text, text becomes events or one body.

A client that reads slowly never holds up a worker: while its connection is full its text is gathered, and goes out as one
larger event when it has read. Who does not read for so long that more is gathered than one connection may hold is cut off, visibly:
a stream that is kept can be resumed from where it was, and the others' memory is not lent to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.flow.facts import CANCELLED, GONE, Fact
from cordee.flow.mailbox import Mailbox
from cordee.gateway.replies import JSON
from cordee.http.exchange import Answer as HttpAnswer
from cordee.http.exchange import Outlet
from cordee.wire.shape import Choice, Shape, Usage, error_event

GATHERED_CHARS_MAX = (
    16 * 1024
)  # of all choices, beside the connection's own buffer: 64 KiB together, but for rare alphabets
GATHERED_BYTES_MAX = 16 * 1024  # of tokens with their logprobs, which are gathered as the events they will be
EVENTS = b"content-type: text/event-stream\r\ncache-control: no-cache\r\n"


class TokenSink:
    """Answers from our own workers. `pieces` gives the bytes of a token."""

    __slots__ = (
        "_begun", "_box", "_cached", "_ended", "_exchange", "_headers", "_held", "_held_bytes", "_is_holding", "_pieces", "_shape",
        "_stream", "_tokens_in", "_unclosed", "_waiting", "_whys", "_with_usage", "counts", "is_told", "logprobs", "texts",
    )  # fmt: skip

    def __init__(
        self, exchange: Outlet, box: Mailbox[Fact], shape: Shape, pieces: Callable[[int], bytes], stops: tuple[str, ...],
        *, n: int, stream: bool, with_usage: bool, with_logprobs: bool, tokens_in: int, headers: bytes,
    ) -> None:  # fmt: skip
        self._exchange = exchange
        self._box = box
        self._shape = shape
        self._pieces = pieces
        self._stream = stream
        self._with_usage = with_usage
        self._tokens_in = tokens_in
        self._cached = 0
        self._headers = headers
        self._begun = self._ended = False
        self.is_told = False  # the head has left, with comments
        self._unclosed: list[int] = []
        self._whys: list[Finish] = [Finish.NONE] * n
        self._waiting: list[str] | None = [""] * n if not stream else None
        self._held: list[bytes] = []  # events, where there are logprobs
        self._held_bytes = 0
        self._is_holding = False
        self.texts = shape.texts(pieces, stops, n)
        self.logprobs: list[list[dict[str, Any]]] | None = [[] for _ in range(n)] if with_logprobs else None
        self.counts = [0] * n

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
        text = self.texts[choice]
        self.counts[choice] += 1
        delta = text.push(token)
        if self.logprobs is not None and logprobs is not None:
            self.logprobs[choice].append(self._shape.position(self._pieces, token, logprobs, text.offset))
        text.offset += len(delta)
        if self._waiting is not None:
            self._waiting[choice] += delta
            if self._stream:
                self._hold(choice)
        elif self._exchange.is_slow:
            self._waiting = [""] * len(self.texts)
            self._waiting[choice] = delta
        else:
            self._send(choice, delta)
        if text.is_stopped:
            self._whys[choice] = Finish.STOP
            self._close(choice)
            return True
        return False

    def finish(self, choice: int, why: Finish) -> None:
        rest = self.texts[choice].end()
        self._whys[choice] = why
        if self._waiting is not None:
            self._waiting[choice] += rest
        elif rest:
            self._send(choice, rest)
        self._close(choice)

    def text(self, choice: int, text: str, why: Finish) -> None:
        self._shape.verbatim()
        if self._waiting is not None:
            self._waiting[choice] += text
            if self._stream:
                self._hold(choice)
        elif self._exchange.is_slow:
            self._waiting = [""] * len(self.texts)
            self._waiting[choice] = text
        elif text:
            self._send(choice, text)
        if why is not Finish.NONE:
            self._whys[choice] = why
            self._close(choice)

    def usage(self, tokens_in: int, tokens_out: int) -> None:
        self._tokens_in = tokens_in
        self.counts[0] = tokens_out

    def cached(self, tokens: int) -> None:
        self._cached = tokens

    def result(self, choice: int, data: bytes) -> None:
        raise AssertionError("an answer in words is no result of a task")

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Of a replica that speaks text: what the answer's head is to say of it."""
        if not self._begun:
            self.mark(b"".join([b"%s: %s\r\n" % header for header in headers]))

    def body(self, data: bytes) -> bool:
        raise AssertionError("our own workers send tokens, not bytes")

    def complete(self) -> None:
        if not self._stream:
            assert self._waiting is not None
            choices = [
                Choice(at, text, self.logprobs[at] if self.logprobs is not None else None, self._whys[at])
                for at, text in enumerate(self._waiting)
            ]
            body = self._shape.whole(choices, self._used())
            self._exchange.answer(HttpAnswer(200, self._headers + JSON, body))
        elif self._waiting is None:
            self._end()
        else:
            self._ended = True  # the rest goes out when the client has read

    def fail(self, status: int, body: bytes, headers: bytes) -> None:
        """The call ends without an answer, or in the middle of one."""
        answer = HttpAnswer(status, self._headers + JSON + headers, body)
        if self._begun or self.is_told:
            self._exchange.fail(answer, error_event(body))
        else:
            self._exchange.answer(answer)

    # -- http.server.Listener

    def gone(self) -> None:
        self._box.post(GONE)

    def cancelled(self) -> None:
        self._box.post(CANCELLED)

    def writable(self) -> None:
        if not self._stream or self._waiting is None:
            return
        waiting, self._waiting = self._waiting, None
        if self._held:
            held, self._held, self._held_bytes = self._held, [], 0
            self._exchange.write(b"".join(held))
        for choice, text in enumerate(waiting):
            if text or (self.logprobs is not None and self.logprobs[choice]):
                self._send(choice, text)
        closed, self._unclosed = self._unclosed, []
        for choice in closed:
            self._close(choice)
        if self._ended:
            self._end()

    def _hold(self, choice: int) -> None:
        """More is gathered for a client: enough is enough."""
        assert self._waiting is not None
        if self.logprobs is not None:
            self._gather(choice)
        is_much = (
            len(self._waiting[choice]) * len(self._waiting) > GATHERED_CHARS_MAX
            or self._held_bytes > GATHERED_BYTES_MAX
        )
        if is_much and self._exchange.is_slow:
            self._exchange.abort()

    def _gather(self, choice: int) -> None:
        """As the event it will be: logprobs take many times that as objects."""
        assert self._waiting is not None
        text, self._waiting[choice] = self._waiting[choice], ""
        self._is_holding = True
        self._send(choice, text)
        self._is_holding = False

    def _write(self, event: bytes) -> None:
        if self._is_holding:
            self._held.append(event)
            self._held_bytes += len(event)
        else:
            self._exchange.write(event)

    # -- events

    def _used(self) -> Usage:
        return Usage(self._tokens_in, sum(self.counts), self._cached)

    def _send(self, choice: int, text: str) -> None:
        if not self._begun:
            self._begin()
        entries: list[dict[str, Any]] | None = None
        if self.logprobs is not None:
            entries, self.logprobs[choice] = self.logprobs[choice], []
        if text or entries:
            event = self._shape.delta(choice, text, entries)
            if event:
                self._write(event)

    def _begin(self) -> None:
        self._begun = True
        if not self.is_told:
            self._exchange.begin(200, self._headers + EVENTS)
        for choice in range(len(self.texts)):
            event = self._shape.open(choice)
            if event:
                self._write(event)

    def _close(self, choice: int) -> None:
        if not self._stream:
            return
        if self._waiting is not None:
            self._unclosed.append(choice)
            return
        if not self._begun:
            self._begin()
        self._exchange.write(self._shape.close(choice, self._whys[choice]))

    def _end(self) -> None:
        if not self._begun:
            self._begin()
        usage = self._shape.usage(self._used()) if self._with_usage else b""
        self._exchange.end(usage + self._shape.done)
