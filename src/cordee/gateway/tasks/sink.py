"""The client's side of a task: what comes for its items is put into words as it comes, and leaves as one body at the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Protocol

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.flow.facts import CANCELLED, GONE, Fact
from cordee.flow.mailbox import Mailbox
from cordee.gateway.replies import JSON
from cordee.http.exchange import Answer as HttpAnswer
from cordee.http.exchange import Outlet
from cordee.wire import errors
from cordee.wire.errors import Invalid
from cordee.wire.shape import Usage


class TaskAnswer(Protocol):
    """The answer of one endpoint."""

    def result(self, item: int, data: bytes) -> None:
        """What was computed for one item, as little-endian 32-bit floats. May come twice; it is the same then."""
        ...

    def whole(self, id: str, created: int, used: Usage) -> bytes:
        """The body, when all items have their result. Raises Invalid for what could only be seen now."""
        ...


class TaskSink:
    """One task of our own workers. Port flow.answer.Sink."""

    __slots__ = ("_answer", "_box", "_cached", "_exchange", "_headers", "_id", "_tokens_in")

    def __init__(
        self, exchange: Outlet, box: Mailbox[Fact], id: str, answer: TaskAnswer, tokens_in: int, headers: bytes
    ) -> None:
        self._exchange = exchange
        self._box = box
        self._id = id
        self._answer = answer
        self._tokens_in = tokens_in
        self._cached = 0
        self._headers = headers

    def mark(self, lines: bytes) -> None:
        """Further header lines of the answer."""
        self._headers += lines

    # -- port Sink

    def result(self, choice: int, data: bytes) -> None:
        self._answer.result(choice, data)

    def finish(self, choice: int, why: Finish) -> None: ...

    def cached(self, tokens: int) -> None:
        self._cached = tokens

    def token(self, choice: int, token: int, logprobs: TokenLogprobs | None) -> bool:
        raise AssertionError("a task is answered with numbers, not tokens")

    def text(self, choice: int, text: str, why: Finish) -> None:
        raise AssertionError("a task is answered with numbers, not text")

    def usage(self, tokens_in: int, tokens_out: int) -> None:
        raise AssertionError("only our own workers are asked, and what they read is known")

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        raise AssertionError("our own workers send numbers, not bytes")

    def body(self, data: bytes) -> bool:
        raise AssertionError("our own workers send numbers, not bytes")

    def complete(self) -> None:
        try:
            body = self._answer.whole(self._id, int(time.time()), Usage(self._tokens_in, 0, self._cached))
        except Invalid as fault:
            self.fail(fault.status, errors.body(fault.status, fault.message, fault.param, fault.code), b"")
        else:
            self._exchange.answer(HttpAnswer(200, self._headers + JSON, body))

    def fail(self, status: int, body: bytes, headers: bytes) -> None:
        """The call ends without an answer."""
        self._exchange.answer(HttpAnswer(status, self._headers + JSON + headers, body))

    # -- http.server.Listener

    def gone(self) -> None:
        self._box.post(GONE)

    def cancelled(self) -> None:
        self._box.post(CANCELLED)

    def writable(self) -> None: ...
