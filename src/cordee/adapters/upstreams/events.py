"""The events of an OpenAI-compatible stream, read one by one: for answers that are not only passed on.

Sans-I/O: bytes in, events out. Garbage raises Broken, so that nobody mistakes it for text.
"""

from __future__ import annotations

from typing import Any

import msgspec

from cordee.adapters.upstreams.faults import Error, error_of

EVENT_BYTES_MAX = 1024 * 1024


class Broken(Exception):
    """The stream is no stream of events, or says that it failed. `error`: what the server said, if it said anything."""

    def __init__(self, cause: str, error: Error | None = None) -> None:
        super().__init__(cause)
        self.error = error


class Delta(msgspec.Struct):
    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[Any] | None = None
    function_call: Any = None


class EventChoice(msgspec.Struct):
    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None  # of a whole answer
    text: str | None = None  # of the completions endpoint
    finish_reason: str | None = None
    token_ids: list[int] | None = None

    @property
    def content(self) -> str:
        part = self.delta or self.message
        return (part.content if part is not None else self.text) or ""

    @property
    def is_more_than_text(self) -> bool:
        """It calls a tool or thinks aloud: text alone would not go on with it."""
        part = self.delta or self.message
        return part is not None and bool(
            part.tool_calls or part.function_call or part.reasoning_content or part.reasoning
        )


class Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Event(msgspec.Struct):
    id: str = ""
    object: str = ""
    created: int = 0
    model: str = ""
    system_fingerprint: str | None = None
    choices: list[EventChoice] = []
    usage: Usage | None = None
    prompt_token_ids: list[int] | None = None


_decode = msgspec.json.Decoder(Event).decode


def decode(payload: bytes) -> Event:
    """One event, or a whole answer. Raises Broken."""
    try:
        error = error_of(payload)
        if error is not None:
            raise Broken(f"it answered with an error: {error.message[:200]}", error)
        return _decode(payload)
    except msgspec.MsgspecError as trouble:
        raise Broken("it sent an event that is not what was agreed on") from trouble


class Lines:
    """Cuts a stream into the payloads of its `data:` lines. `is_done`: [DONE] was among them."""

    __slots__ = ("_rest", "is_done")

    def __init__(self) -> None:
        self._rest = b""
        self.is_done = False

    def feed(self, data: bytes) -> list[bytes]:
        """The payloads that are whole now. Raises Broken."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > EVENT_BYTES_MAX:
            raise Broken(f"it sent an event of more than {EVENT_BYTES_MAX} bytes")
        return [payload for payload in map(self._payload, lines) if payload]

    def end(self) -> None:
        """No more comes; a last line may lack its end."""
        self._payload(self._rest)

    def _payload(self, line: bytes) -> bytes:
        line = line.rstrip(b"\r")
        if not line or line.startswith((b":", b"event:", b"id:", b"retry:")) or self.is_done:
            return b""
        if not line.startswith(b"data:"):
            raise Broken("it announced a stream of events and sent something else")
        payload = line[len(b"data:") :].strip()
        if payload == b"[DONE]":
            self.is_done = True
            return b""
        return payload
