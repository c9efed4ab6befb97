"""Answers of other servers on their way through: as bytes, but only whole events, and an end only behind a whole answer.

What looks like success must be success. A stream is passed on in pieces that end where an event ends, so that a break never
leaves half an event behind; its first event is read, because a server that is out of order says so there; `[DONE]` is held
back until the connection has ended well and a finish was seen. Everything between costs a comparison of the last bytes of each
piece. A whole answer is read once, when it is there. What is found wanting is `broken`: flow asks again or elsewhere, or says so.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import assert_never

import msgspec

from cordee.adapters.upstreams.faults import PASSED, Busy, Fault, Passed, error_of, judge
from cordee.ports import Receiver

DONE = b"data: [DONE]\n\n"
EVENT_ENDS = (b"\n\n", b"\n\r\n", b"\r\r")
DONE_ENDS = (b"[DONE]\n\n", b"[DONE]\r\n\r\n")
DONE_LINE = re.compile(rb"^data:[ ]?\[DONE\]", re.MULTILINE)
ERROR_EVENT = b'data: {"error"'
FIELDS = (b"data", b"event", b"id", b"retry", b":")
FINISH = re.compile(rb'"finish_reason"\s*:\s*"')
TAIL_PIECES = 6  # of a stream's end, in which its finish stands: finish, usage, timings, [DONE], each perhaps in two
HELD_BYTES_MAX = 1024 * 1024  # of one event; a longer one is no event of a chat
NO_TAIL: deque[bytes] = deque(maxlen=0)  # of an answer that is no stream
WHOLE_BYTES_MAX = 64 * 1024 * 1024  # of an answer that is read before it counts


class Passing:
    """http.client.Receiver of one forwarded attempt. `stream`: the client has asked for one."""

    __slots__ = (
        "_done",
        "_first",
        "_held",
        "_is_stream",
        "_parts",
        "_receiver",
        "_size",
        "_status",
        "_stream",
        "_tail",
        "_verdict",
    )

    def __init__(self, receiver: Receiver, *, stream: bool) -> None:
        self._receiver = receiver
        self._stream = stream
        self._status = 0
        self._is_stream = False
        self._verdict: Passed | Busy | Fault = PASSED
        self._first = True  # the first event has not been read yet
        self._held = b""
        self._done = b""
        self._parts: list[bytes] = []
        self._size = 0
        self._tail: deque[bytes] = NO_TAIL

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._status = status
        if status >= 400:
            self._verdict = judge(status, headers)
            if self._verdict is not PASSED:
                return
        kind = b""
        for name, value in headers:
            if name == b"content-type":
                kind = value
                break
        if kind.startswith(b"text/event-stream"):
            self._is_stream = True
            self._tail = deque(maxlen=TAIL_PIECES)
        if status < 300 and kind and not self._is_stream and b"json" not in kind:
            self._verdict = Fault(f"it answered with {kind[:40].decode('ascii', 'replace')} instead of JSON", ran=True)
        elif self._is_stream and not self._stream:
            self._verdict = Fault("it answered with a stream that nobody asked for", ran=True)
        else:
            self._receiver.head(status, headers)

    def body(self, data: bytes) -> None:
        if (
            self._is_stream
            and not (self._first or self._held or self._done)
            and data.endswith(EVENT_ENDS)
            and not data.endswith(DONE_ENDS)
            and ERROR_EVENT not in data
        ):
            self._tail.append(data)
            self._receiver.body(data)
            return
        if self._verdict is not PASSED:
            return
        if self._is_stream:
            self._look(data)
            return
        self._size += len(data)
        if self._size <= WHOLE_BYTES_MAX:
            self._parts.append(data)
        self._receiver.body(data)

    def complete(self) -> None:
        verdict = self._verdict
        if verdict is PASSED and not self._is_stream:
            self._end_whole()
            return
        match verdict:
            case Busy():
                self._receiver.busy(verdict.retry_after_s)
            case Fault():
                self._receiver.broken(verdict.cause, ran=verdict.ran)
            case Passed():
                self._end_stream()
            case _:
                assert_never(verdict)

    def closed(self) -> None:
        if self._is_stream or self._status >= 400 or self._parts:
            self.complete()  # what stands in it says whether it is whole
        else:
            self._receiver.broken("it closed the connection behind an empty answer", ran=True)

    def broken(self, cause: str, *, ran: bool) -> None:
        self._receiver.broken(cause, ran=ran)

    # -- streams

    def _look(self, data: bytes) -> None:
        """A piece that is the first one, or not whole events, or may hold the end or an error."""
        data = self._held + data
        self._held = b""
        if self._done:
            return  # nothing that follows [DONE] is anybody's
        cut = _last_end(data)
        if cut < len(data):
            self._held, data = data[cut:], data[:cut]
            if len(self._held) > HELD_BYTES_MAX:
                self._fault(f"it sent an event of more than {HELD_BYTES_MAX} bytes")
                return
        if not data:
            return
        if self._first:
            if b"data:" not in data and data.startswith(b":"):
                return  # a comment to pass the time; the answer has not begun, so that it can still be had elsewhere
            fault = first_fault(data)
            if fault is not None:
                self._fault(fault)
                return
            self._first = False
        found = DONE_LINE.search(data)
        if found is not None:
            self._done, data = data[found.start() :], data[: found.start()]
        if ERROR_EVENT in data:
            self._error(data)
            return
        if data:
            self._tail.append(data)
            self._receiver.body(data)

    def _error(self, data: bytes) -> None:
        """The server says in the middle of its stream that it cannot go on. What is the client's fault goes through."""
        at = data.index(ERROR_EVENT)
        event = data[at + len(b"data: ") :].split(b"\n", 1)[0]
        try:
            error = error_of(event)
        except msgspec.MsgspecError:
            error = None
        if at:
            self._receiver.body(data[:at])
        if error is not None and error.is_clients:
            self._verdict = Fault("", ran=True)  # whatever follows is not passed on
            self._receiver.body(data[at:])
            self._receiver.complete()
            self._receiver = _DEAF
            return
        self._fault(f"it broke off with an error: {error.message[:200] if error is not None else 'unreadable'}")

    def _fault(self, cause: str) -> None:
        self._verdict = Fault(cause, ran=True)
        self._receiver.broken(cause, ran=True)
        self._receiver = _DEAF

    def _end_stream(self) -> None:
        if not self._done and DONE_LINE.search(self._held) is not None:
            self._done = DONE  # the last line, without the empty one behind it
        if self._first:
            self._receiver.broken("its stream ended before its first event", ran=True)
        elif not self._done:
            self._receiver.broken("its stream ended without [DONE]", ran=True)
        elif FINISH.search(b"".join(self._tail)) is None:
            self._receiver.broken("its stream ended without a finish_reason", ran=True)
        else:
            self._receiver.body(self._done)
            self._receiver.complete()

    # -- whole answers

    def _end_whole(self) -> None:
        parts = self._parts
        if self._status < 300 and self._size <= WHOLE_BYTES_MAX:
            fault = whole_fault(parts[0] if len(parts) == 1 else b"".join(parts))
            if fault is not None:
                self._receiver.broken(fault, ran=True)
                return
        self._receiver.complete()


def first_fault(data: bytes) -> str | None:
    """What is wrong with the beginning of a stream, which ends where an event ends."""
    if not data.lstrip().startswith(FIELDS):
        return "it announced a stream of events and sent something else"
    for line in data.splitlines():
        if line.startswith(b"data:"):
            payload = line[len(b"data:") :].strip()
            if payload == b"[DONE]":
                return "its stream ended before it began"
            try:
                error = error_of(payload)
            except msgspec.MsgspecError:
                return "its first event is not JSON"
            return f"it answered with an error: {error.message[:200]}" if error is not None else None
    return None


def whole_fault(body: bytes) -> str | None:
    """What is wrong with an answer that claims success."""
    try:
        error = error_of(body)
    except msgspec.MsgspecError:
        return "it answered with something that is not whole JSON"
    return f"it answered with an error: {error.message[:200]}" if error is not None else None


def _last_end(data: bytes) -> int:
    """Behind the last whole event."""
    if data.endswith(EVENT_ENDS):
        return len(data)
    return max(
        data.rfind(b"\n\n") + 2 if b"\n\n" in data else 0, data.rfind(b"\r\n\r\n") + 4 if b"\r\n\r\n" in data else 0
    )


class _Deaf:
    """Receiver of what nobody hears any more."""

    def __getattr__(self, name: str) -> object:
        return _ignore


def _ignore(*_: object, **__: object) -> None: ...


_DEAF: Receiver = _Deaf()  # type: ignore[assignment]  # it answers to every name
