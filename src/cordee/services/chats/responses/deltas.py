"""What a chat completion says, piece by piece: chunks of its stream, or its whole answer as one piece. Pure.

How much of an answer was said is an `Extent`: characters of its reasoning, its text and the arguments of its calls. A kept answer may come
again in other pieces than the first time; extents do not depend on the pieces, so an answer can be cut where its client's copy ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from cordee.domain.record import record

DONE = b"[DONE]"


class BrokenError(Exception):
    """What came is no chat completion, or one that ended with an error. `status` where the gateway said one."""

    def __init__(self, message: str, code: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@record
class CallPiece:
    """A call of a function, or more of one: `name` is "" in all its pieces but the first."""

    index: int
    id: str
    name: str
    arguments: str


@record
class Usage:
    """Tokens. `cached`: of the input; `reasoning`: of the output."""

    input: int
    output: int
    cached: int
    reasoning: int


@record
class Delta:
    """One piece. Reasoning comes before text, text before calls. `finish`: why it ended, None before its end."""

    reasoning: str = ""
    content: str = ""
    refusal: str = ""
    calls: tuple[CallPiece, ...] = ()
    logprobs: Sequence[Any] = ()
    finish: str | None = None
    usage: Usage | None = None


@record
class Extent:
    """How much was said: characters of each, and how many calls were begun."""

    reasoning: int = 0
    content: int = 0
    calls: int = 0
    arguments: int = 0

    def plus(self, delta: Delta) -> Extent:
        return Extent(
            self.reasoning + len(delta.reasoning),
            self.content + len(delta.content) + len(delta.refusal),
            self.calls + sum(1 for call in delta.calls if call.name),
            self.arguments + sum(len(call.arguments) for call in delta.calls),
        )


def behind(delta: Delta, left: Extent) -> tuple[Delta, Delta, Extent]:
    """What of the piece lies within `left` and what behind it, and what is then left to be skipped. Its end lies behind."""
    text = delta.content + delta.refusal
    thoughts, said = min(len(delta.reasoning), left.reasoning), min(len(text), left.content)
    in_content = min(said, len(delta.content))
    in_refusal = said - in_content
    calls, arguments = left.calls, left.arguments
    inside: list[CallPiece] = []
    outside: list[CallPiece] = []
    for call in delta.calls:
        known = bool(call.name) and calls > 0
        calls -= known
        count = min(len(call.arguments), arguments) if known or not call.name else 0
        arguments -= count
        begun = CallPiece(call.index, call.id, call.name, call.arguments[:count])
        rest = CallPiece(call.index, "", "", call.arguments[count:])
        if known:
            inside.append(begun)
        elif call.name:
            outside.append(call)
            continue
        elif count:
            inside.append(begun)
        if rest.arguments:
            outside.append(rest)
    taken = Delta(delta.reasoning[:thoughts], delta.content[:in_content], delta.refusal[:in_refusal], tuple(inside))
    rest_of = Delta(
        delta.reasoning[thoughts:], delta.content[in_content:], delta.refusal[in_refusal:], tuple(outside),
        delta.logprobs if text[said:] or not text else (), delta.finish, delta.usage,
    )  # fmt: skip
    return taken, rest_of, Extent(left.reasoning - thoughts, left.content - said, calls, arguments)


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    function: _Function
    index: int = 0
    id: str | None = None


class _Said(Struct):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Logprobs(Struct):
    content: list[Any] | None = None


class _Choice(Struct):
    delta: _Said | None = None
    message: _Said | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _PromptDetails(Struct):
    cached_tokens: int | None = None


class _CompletionDetails(Struct):
    reasoning_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Error(Struct):
    message: str = "the answer broke off"
    code: str | int | None = None


class _Answer(Struct):
    choices: list[_Choice] = field(default_factory=list)
    usage: _Usage | None = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Answer).decode


def heard(data: bytes) -> Delta:
    """A chunk of a stream, or a whole answer. Raises BrokenError."""
    try:
        answer = _decode(data)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BrokenError("what came from the gateway is no chat completion") from error
    if answer.error is not None:
        code = answer.error.code
        raise BrokenError(answer.error.message, None if code is None else str(code))
    usage = None if answer.usage is None else _used(answer.usage)
    if not answer.choices:
        return Delta(usage=usage)
    choice = answer.choices[0]
    said = choice.delta or choice.message or _Said()
    logprobs = choice.logprobs.content if choice.logprobs is not None else None
    is_whole = choice.message is not None
    calls = tuple(_piece(call, at if is_whole else call.index) for at, call in enumerate(said.tool_calls or ()))
    return Delta(
        said.reasoning_content or said.reasoning or "", said.content or "", said.refusal or "", calls, logprobs or (),
        choice.finish_reason, usage,
    )  # fmt: skip


def _piece(call: _Call, index: int) -> CallPiece:
    return CallPiece(index, call.id or "", call.function.name or "", call.function.arguments or "")


def _used(usage: _Usage) -> Usage:
    cached = usage.prompt_tokens_details.cached_tokens if usage.prompt_tokens_details is not None else None
    thought = usage.completion_tokens_details.reasoning_tokens if usage.completion_tokens_details is not None else None
    return Usage(usage.prompt_tokens, usage.completion_tokens, cached or 0, thought or 0)
