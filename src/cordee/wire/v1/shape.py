"""Chat over gRPC as bytes: requests as bodies of chat completions, answers as serialized events."""

from __future__ import annotations

from typing import Any

from msgspec.json import Decoder, Encoder

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.wire.chat import logprob_entry
from cordee.wire.errors import Invalid
from cordee.wire.shape import Choice as WireChoice
from cordee.wire.shape import Pieces, TextShape, finish_reason
from cordee.wire.shape import Usage as WireUsage
from cordee.wire.v1.chat_pb2 import (
    ChatAnswer,
    ChatEvent,
    ChatRequest,
    Choice,
    Created,
    Delta,
    Error,
    Finished,
    Priority,
    Usage,
)  # fmt: skip

PARAMETERS = (
    "temperature", "top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "n", "seed",
    "max_tokens", "min_tokens", "ignore_eos",
)  # fmt: skip
PRIORITIES = {
    Priority.PRIORITY_INTERACTIVE: b"interactive",
    Priority.PRIORITY_STANDARD: b"standard",
    Priority.PRIORITY_BATCH: b"batch",
}
_encode = Encoder().encode
_error = Decoder(dict[str, dict[str, Any]]).decode


def body_of(request: ChatRequest, *, stream: bool) -> bytes:
    """The same call as the body of POST /v1/chat/completions: whatever is wrong with it is found, and named, there."""
    messages = [
        {"role": one.role, "content": one.content, **({"name": one.name} if one.name else {})}
        for one in request.messages
    ]
    body: dict[str, Any] = {"model": request.model, "messages": messages}
    for name in PARAMETERS:
        if request.HasField(name):
            body[name] = getattr(request, name)
    if request.stop:
        body["stop"] = list(request.stop)
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return _encode(body)


def headers_of(request: ChatRequest) -> dict[bytes, bytes]:
    """What of the call goes into headers over HTTP. Raises Invalid."""
    headers: dict[bytes, bytes] = {}
    if request.priority != Priority.PRIORITY_UNSPECIFIED:
        priority = PRIORITIES.get(request.priority)
        if priority is None:
            raise Invalid(
                f"'priority' is {request.priority}, which is none; leave it out for what is usual", "priority"
            )
        headers[b"x-cordee-priority"] = priority
    if request.HasField("resumable"):
        headers[b"x-cordee-resumable"] = b"1" if request.resumable else b"0"
    if request.idempotency_key:
        key = request.idempotency_key
        if not key.isascii() or not key.isprintable():
            raise Invalid("'idempotency_key' has up to 255 visible ASCII characters", "idempotency_key")
        headers[b"idempotency-key"] = key.encode()
    return headers


def error_of(status: int, body: bytes) -> Error:
    """OpenAI's error object as a message; `body` is its JSON."""
    said = _error(body).get("error", {})
    text = {name: str(said.get(name) or "") for name in ("message", "type", "param", "code")}
    return Error(**text, http_status=status)


def created(call_id: str, model: str, *, resumable: bool) -> bytes:
    return ChatEvent(
        created=Created(call_id=call_id, stream=call_id, model=model, resumable=resumable)
    ).SerializeToString()


def events_of(answer: bytes) -> list[bytes]:
    """A serialized ChatAnswer as the events of a stream."""
    said = ChatAnswer.FromString(answer)
    events = []
    for one in said.choices:
        events.append(ChatEvent(delta=Delta(choice=one.index, text=one.text)))
        events.append(ChatEvent(finished=Finished(choice=one.index, reason=one.finish_reason)))
    events.append(ChatEvent(usage=said.usage))
    return [event.SerializeToString() for event in events]


class EventShape(TextShape):
    """The bytes of one call's answer; see wire.shape.Shape."""

    done = b""

    def __init__(self, call_id: str, model: str) -> None:
        self._call_id = call_id
        self._model = model

    def open(self, choice: int) -> bytes:
        return b""

    def delta(self, choice: int, text: str, logprobs: list[dict[str, Any]] | None) -> bytes:
        return ChatEvent(delta=Delta(choice=choice, text=text)).SerializeToString()

    def close(self, choice: int, why: Finish) -> bytes:
        return ChatEvent(finished=Finished(choice=choice, reason=finish_reason(why))).SerializeToString()

    def usage(self, used: WireUsage) -> bytes:
        return ChatEvent(usage=_usage(used)).SerializeToString()

    def whole(self, choices: list[WireChoice], used: WireUsage) -> bytes:
        said = [Choice(index=one.index, text=one.text, finish_reason=finish_reason(one.why)) for one in choices]
        return ChatAnswer(
            call_id=self._call_id, model=self._model, choices=said, usage=_usage(used)
        ).SerializeToString()

    def placed(self, event: bytes, stream: str, position: str) -> bytes:
        """Serialized messages that are joined are merged: one field behind the event is the event with that field."""
        return event + ChatEvent(position=position).SerializeToString() if event else b""

    def position(self, pieces: Pieces, token: int, logprobs: TokenLogprobs, offset: int) -> dict[str, Any]:
        return logprob_entry(pieces, token, logprobs)


def _usage(used: WireUsage) -> Usage:
    return Usage(prompt_tokens=used.tokens_in, completion_tokens=used.tokens_out)
