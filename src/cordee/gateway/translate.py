"""Another server's chat answer in the shape that the client asked for.

A server reached by URL answers in OpenAI's format, and its bytes pass through `gateway.forward` as they are. A client that is
answered in another format (messages of a WebSocket, events of an RPC) gets them through this: an Outlet that reads
server-sent events, and writes the same answer to the client's outlet in the client's shape.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field
from msgspec.json import Decoder, encode

from cordee.domain.chunk import Finish
from cordee.gateway.replies import JSON
from cordee.http.exchange import Answer, Listener, Outlet
from cordee.wire import errors
from cordee.wire.errors import Invalid
from cordee.wire.shape import Choice, Shape, Usage
from cordee.wire.strict import decode

DATA = b"data:"
END = b"[DONE]"
LINE_BYTES_MAX = 1 << 20  # of one event; a longer one is nobody's delta
GARBAGE = "the upstream server sent an event that is not one of a chat completion"


class _Text(Struct):
    content: str | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Choice(Struct):
    index: int = 0
    delta: _Text | None = None
    message: _Text | None = None
    finish_reason: str | None = None


class _Event(Struct):
    choices: list[_Choice] = field(default_factory=list)
    usage: _Usage | None = None
    error: Any = None


_EVENT = Decoder(_Event)


class Translation:
    """Outlet for a forwarded answer; what comes out goes to `target`."""

    __slots__ = ("_closed", "_rest", "_shape", "_stream", "_target", "_usage")

    def __init__(self, target: Outlet, shape: Shape, *, stream: bool) -> None:
        self._target = target
        self._shape = shape
        self._stream = stream
        self._rest = b""
        self._usage = _Usage()
        self._closed: set[int] = set()

    @property
    def is_open(self) -> bool:
        return self._target.is_open

    @property
    def is_slow(self) -> bool:
        return self._target.is_slow

    @property
    def listener(self) -> Listener | None:
        return self._target.listener

    @listener.setter
    def listener(self, listener: Listener | None) -> None:
        self._target.listener = listener

    def answer(self, answer: Answer) -> None:
        if answer.status != 200:
            self._target.answer(answer)
            return
        try:
            event = decode(_EVENT, answer.body)
        except Invalid:
            self._target.answer(Answer(502, JSON, errors.body(502, GARBAGE)))
            return
        counted = event.usage or self._usage
        if not self._stream:
            choices = [
                Choice(one.index, (one.message or _Text()).content or "", None, _finish(one)) for one in event.choices
            ]
            body = self._shape.whole(choices, Usage(counted.prompt_tokens, counted.completion_tokens))
            self._target.answer(Answer(200, answer.headers, body))
            return
        self.begin(200, answer.headers)
        self._say(event)
        self.end()

    def begin(self, status: int, headers: bytes) -> None:
        self._target.begin(status, headers)

    def write(self, data: bytes) -> None:
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            self._line(line.rstrip(b"\r"))
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
            self._garbage()

    def end(self, data: bytes = b"") -> None:
        if data:
            self.write(data)
        if self._rest:
            self._line(self._rest)
        usage = self._usage
        self._target.end(self._shape.usage(Usage(usage.prompt_tokens, usage.completion_tokens)) + self._shape.done)

    def fail(self, answer: Answer, event: bytes) -> None:
        self._target.fail(answer, event)

    def abort(self) -> None:
        self._target.abort()

    def _line(self, line: bytes) -> None:
        if not line.startswith(DATA):
            return  # a comment, an id, the empty line between events
        data = line[len(DATA) :].strip()
        if not data or data == END:
            return
        try:
            event = decode(_EVENT, data)
        except Invalid:
            self._garbage()
            return
        if event.error is not None:
            body = encode({"error": event.error})
            self._target.fail(Answer(502, JSON, body), b"")
            return
        self._say(event)

    def _say(self, event: _Event) -> None:
        target, shape = self._target, self._shape
        for one in event.choices:
            said = one.delta or one.message
            if said is not None and said.content:
                target.write(shape.delta(one.index, said.content, None))
            if one.finish_reason is not None and one.index not in self._closed:
                self._closed.add(one.index)
                target.write(shape.close(one.index, _finish(one)))
        if event.usage is not None:
            self._usage = event.usage

    def _garbage(self) -> None:
        self._target.fail(Answer(502, JSON, errors.body(502, GARBAGE)), b"")


def _finish(choice: _Choice) -> Finish:
    return Finish.LENGTH if choice.finish_reason == "length" else Finish.STOP
