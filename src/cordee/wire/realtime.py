"""The messages of /v1/realtime/chat: what a client may send, as types, and what it is sent, as bytes.

Each is one JSON object in one text message, told apart by its `type`. Every call that was created ends in exactly one
`call.completed` or `call.failed`.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.wire.chat import logprob_entry
from cordee.wire.errors import Invalid, retry_after_in
from cordee.wire.said import Said, SaidChoice
from cordee.wire.shape import Choice, Pieces, TextShape, Usage, encode, finish_reason, usage
from cordee.wire.strict import decode, look_closely

ID_CHARS_MAX, STREAM_CHARS_MAX, POSITION_CHARS_MAX = 128, 256, 2048
SAFE = r"^[!-~]+\Z"  # visible ASCII: it goes into a header
Id = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]
Stream = Annotated[str, Meta(max_length=STREAM_CHARS_MAX, pattern=SAFE)]
Position = Annotated[str, Meta(max_length=POSITION_CHARS_MAX, pattern=SAFE)]
Priority = Annotated[str, Meta(max_length=32, pattern=SAFE)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
IdempotencyKey = Annotated[str, Meta(max_length=255, pattern=SAFE)]
_LEADING = b'{"stream":true,"stream_options":{"include_usage":true}'
PONG = b'{"type":"pong"}'


class _Message(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type"):
    """Told apart by `type`."""


class CallCreate(_Message, frozen=True, tag="call.create", kw_only=True):
    """`id` is the client's own name of the call, `request` the body of a chat completion."""

    id: Id
    request: Raw
    resumable: bool | None = None
    priority: Priority | None = None
    timeout_s: Seconds | None = None
    idempotency_key: IdempotencyKey | None = None


class CallResume(_Message, frozen=True, tag="call.resume", kw_only=True):
    """The rest of a stream, from the position of the last delta that arrived; none: from the beginning. `id` names it from now
    on; none: the stream does."""

    stream: Stream
    position: Position | None = None
    id: Id | None = None


class CallCancel(_Message, frozen=True, tag="call.cancel", kw_only=True):
    id: Id


class Ping(_Message, frozen=True, tag="ping", kw_only=True):
    """A sign of life that also proxies see, which swallow the protocol's own."""


ClientMessage = CallCreate | CallResume | CallCancel | Ping
_CLIENT: Decoder[ClientMessage] = Decoder(ClientMessage)
_FIELDS = Decoder(dict[str, Raw])


def read(message: bytes) -> ClientMessage:
    """Raises Invalid."""
    return decode(_CLIENT, message)


def streaming(request: Raw) -> bytes:
    """The body of a chat completion whose answer is streamed with its usage, whatever it says of that. Raises Invalid."""
    raw = bytes(request)
    fields = decode(_FIELDS, raw)
    if "stream" in fields or "stream_options" in fields:
        look_closely(raw)  # a key that stands twice would be lost here
        fields.pop("stream", None)
        fields.pop("stream_options", None)
        raw = encode(fields)
    return _LEADING + (b"," + raw.lstrip()[1:] if fields else b"}")


class RealtimeShape(TextShape):
    """The bytes of one call's answer; see wire.shape.Shape and wire.said.SpeakingShape. `id` is the client's name of the call."""

    done = b""

    def __init__(self, id: str) -> None:
        self._id = encode(id)
        self._delta = b'{"type":"call.delta","id":%s,"choice":' % self._id
        self._reasons: dict[int, str] = {}

    def open(self, choice: int) -> bytes:
        return b""

    def delta(self, choice: int, text: str, logprobs: list[dict[str, Any]] | None) -> bytes:
        if logprobs is None:
            return b'%s%d,"text":%s}' % (self._delta, choice, encode(text))
        return b'%s%d,"text":%s,"logprobs":%s}' % (self._delta, choice, encode(text), encode(logprobs))

    def close(self, choice: int, why: Finish) -> bytes:
        self._reasons[choice] = reason = finish_reason(why)
        return b'%s%d,"text":"","finish_reason":"%s"}' % (self._delta, choice, reason.encode())

    def said(self, choice: int, said: Said, logprobs: list[dict[str, Any]] | None) -> bytes:
        entries = {} if logprobs is None else {"logprobs": logprobs}
        return b"%s%d,%s" % (self._delta, choice, encode(_fields(said) | entries)[1:])

    def said_last(self, choice: int, said: Said, why: Finish, reason: str) -> bytes:
        self._reasons[choice] = reason
        return b"%s%d,%s" % (self._delta, choice, encode(_fields(said) | {"finish_reason": reason})[1:])

    def said_whole(self, choices: list[SaidChoice], used: Usage) -> bytes:
        said = []
        for one in choices:
            calls = {"tool_calls": [call.fields for call in one.said.calls]} if one.said.calls else {}
            said.append({"choice": one.index, **_text(one.said), **calls, "finish_reason": one.reason})
        return self._completed(said, used)

    def usage(self, used: Usage) -> bytes:
        choices: list[dict[str, Any]] = [
            {"choice": choice, "finish_reason": self._reasons[choice]} for choice in sorted(self._reasons)
        ]
        return self._completed(choices, used)

    def whole(self, choices: list[Choice], used: Usage) -> bytes:
        """Of a call that was made elsewhere and did not ask for a stream."""
        said = [{"choice": one.index, "text": one.text, "finish_reason": finish_reason(one.why)} for one in choices]
        return self._completed(said, used)

    def placed(self, event: bytes, stream: str, position: str) -> bytes:
        return b'%s,"position":"%s"}' % (event[:-1], position.encode()) if event else b""

    def _completed(self, choices: list[dict[str, Any]], used: Usage) -> bytes:
        return b'{"type":"call.completed","id":%s,"choices":%s,"usage":%s}' % (
            self._id, encode(choices), encode(usage(used))
        )  # fmt: skip

    def position(self, pieces: Pieces, token: int, logprobs: TokenLogprobs, offset: int) -> dict[str, Any]:
        return logprob_entry(pieces, token, logprobs)


def _text(said: Said) -> dict[str, Any]:
    return {"text": said.content, **({"reasoning": said.reasoning} if said.reasoning else {})}


def _fields(said: Said) -> dict[str, Any]:
    return {**_text(said), **({"tool_calls": [call.delta for call in said.calls]} if said.calls else {})}


def created(id: str, stream: str, *, resumable: bool) -> bytes:
    """The call has been accepted; `stream` is what it is resumed by."""
    return b'{"type":"call.created","id":%s,"stream":%s,"resumable":%s}' % (
        encode(id), encode(stream), b"true" if resumable else b"false"
    )  # fmt: skip


def failed(id: str, error: bytes, headers: bytes = b"") -> bytes:
    """The call has ended without an answer, or in the middle of one. `error` is the JSON of an error, `headers` may say when
    asking again makes sense."""
    retry = retry_after_in(headers)
    after = b',"retry_after_s":' + retry if retry else b""
    return b'{"type":"call.failed","id":%s%s,%s' % (encode(id), after, error[1:])


def wrong(error: bytes) -> bytes:
    """A message that could not be meant; the connection goes on. `error` is the JSON of an error."""
    return b'{"type":"error",' + error[1:]


def refused_type(fault: Invalid) -> Invalid:
    """An unknown type in words that help."""
    if fault.param == "type":
        return Invalid("'type' is one of call.create, call.resume, call.cancel, ping", "type", code="unknown_type")
    return fault
