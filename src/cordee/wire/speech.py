"""An answer in a client's format, with its reasoning and its calls of tools in their places.

The sinks of the gateway know text only, and keep doing so: `ParsedShape` stands between them and the format. Text that is gathered for
a slow reader, or that the client of a resumed stream has already, is parsed like any other, so what leaves is a function of the tokens
alone. The ids of calls derive from the id of the request's own call: a resumed stream says the same ones again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.record import record
from cordee.wire.chat import ChatShape
from cordee.wire.realtime import RealtimeShape
from cordee.wire.reasoning import CountedText, Marks, Splitter
from cordee.wire.said import CALLS, Said, SaidChoice, SpeakingShape, ToolCall
from cordee.wire.shape import Choice, Pieces, Shape, Usage, finish_reason
from cordee.wire.text import Text
from cordee.wire.tool_calls import CallParser
from cordee.wire.tool_families import JSON, Family

ID_BYTES = 12  # of a call's id: 24 hexadecimal digits, which is as many letters as OpenAI's have


@record
class Speech:
    """How a model speaks. `marks`: around its reasoning, None where it does not reason or nobody wants to know; `is_thinking`: it is at it
    when its answer begins. `names`: the tools it may call, in the manner of `family`, `calls_max` of them; `is_calling`: the prompt ends
    with the mark of a call. `spelled`: the texts of control tokens that are marks, which have none otherwise."""

    marks: Marks | None = None
    is_thinking: bool = False
    names: frozenset[str] = frozenset()
    family: Family = JSON
    calls_max: int = 0
    is_calling: bool = False
    spelled: Mapping[int, bytes] | None = None


class Ear:
    """Hears one choice. `call_id` names its calls by their numbers."""

    __slots__ = ("_call_id", "_calls", "_content", "_parser", "_reasoning", "_splitter")

    def __init__(self, speech: Speech, call_id: Callable[[int], str]) -> None:
        self._call_id = call_id
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: list[ToolCall] = []  # at most one piece of each
        self._parser: CallParser | None = None
        said: Callable[[str], None] = self._content.append
        if speech.names:
            self._parser = CallParser(
                speech.family, speech.names, self._content.append, self._began, self._argued,
                calls_max=speech.calls_max, is_opened=speech.is_calling,
            )  # fmt: skip
            said = self._parser.push
        self._splitter: Splitter | None = None
        if speech.marks is not None:
            self._splitter = Splitter(speech.marks, self._reasoning.append, said, is_opened=speech.is_thinking)

    @property
    def has_called(self) -> bool:
        return self._parser is not None and self._parser.calls > 0

    def hear(self, text: str) -> Said:
        if self._splitter is not None:
            self._splitter.push(text)
        elif self._parser is not None:
            self._parser.push(text)
        else:
            self._content.append(text)
        return self._taken()

    def end(self) -> Said:
        """What was held back."""
        if self._splitter is not None:
            self._splitter.end()
        if self._parser is not None:
            self._parser.end()
        return self._taken()

    def _taken(self) -> Said:
        said = Said("".join(self._content), "".join(self._reasoning), tuple(self._calls))
        self._content.clear()
        self._reasoning.clear()
        self._calls.clear()
        return said

    def _began(self, name: str) -> None:
        assert self._parser is not None
        index = self._parser.calls - 1
        self._calls.append(ToolCall(index, self._call_id(index), name, ""))

    def _argued(self, arguments: str) -> None:
        assert self._parser is not None
        index = self._parser.calls - 1
        if self._calls and self._calls[-1].index == index:
            begun = self._calls[-1]
            self._calls[-1] = replace(begun, arguments=begun.arguments + arguments)
        else:
            self._calls.append(ToolCall(index, "", "", arguments))


class ParsedShape:
    """wire.shape.Shape around one that has places for what was told apart. `id`: of the call that is answered."""

    def __init__(self, inner: SpeakingShape, speech: Speech, id: str) -> None:
        self.done = inner.done
        self._inner = inner
        self._speech = speech
        self._id = id
        self._ears: dict[int, Ear] = {}
        self._texts: list[CountedText] = []

    def texts(self, pieces: Pieces, stops: tuple[str, ...], n: int) -> list[Text]:
        speech = self._speech
        spelled = speech.spelled
        if spelled:
            plain = pieces

            def pieces(token: int) -> bytes:
                return spelled.get(token) or plain(token)

        if speech.marks is None:
            return [Text(pieces, stops) for _ in range(n)]
        self._texts = [CountedText(pieces, stops, speech.marks, is_opened=speech.is_thinking) for _ in range(n)]
        return list(self._texts)

    def skip(self, choice: int, text: str) -> None:
        self._ear(choice).hear(text)

    def verbatim(self) -> None:
        if not self._ears:
            self._speech = Speech()

    def open(self, choice: int) -> bytes:
        return self._inner.open(choice)

    def delta(self, choice: int, text: str, logprobs: list[dict[str, Any]] | None) -> bytes:
        said = self._ear(choice).hear(text)
        if said.reasoning or said.calls:
            return self._inner.said(choice, said, logprobs)
        return self._inner.delta(choice, said.content, logprobs) if said.content or logprobs else b""

    def close(self, choice: int, why: Finish) -> bytes:
        ear = self._ear(choice)
        return self._inner.said_last(choice, ear.end(), why, _reason(ear, why))

    def usage(self, used: Usage) -> bytes:
        return self._inner.usage(self._counted(used))

    def whole(self, choices: list[Choice], used: Usage) -> bytes:
        return self._inner.said_whole([self._told_apart(choice) for choice in choices], self._counted(used))

    def placed(self, event: bytes, stream: str, position: str) -> bytes:
        return self._inner.placed(event, stream, position)

    def position(self, pieces: Pieces, token: int, logprobs: TokenLogprobs, offset: int) -> dict[str, Any]:
        return self._inner.position(pieces, token, logprobs, offset)

    def _ear(self, choice: int) -> Ear:
        ear = self._ears.get(choice)
        if ear is None:
            ear = self._ears[choice] = Ear(self._speech, lambda index: self._call_id(choice, index))
        return ear

    def _call_id(self, choice: int, index: int) -> str:
        digest = blake2b(f"{self._id}.{choice}.{index}".encode(), digest_size=ID_BYTES)
        chars = self._speech.family.id_chars
        return digest.hexdigest()[:chars] if chars else f"call_{digest.hexdigest()}"

    def _told_apart(self, choice: Choice) -> SaidChoice:
        ear = Ear(self._speech, lambda index: self._call_id(choice.index, index))
        first, rest = ear.hear(choice.text), ear.end()
        said = Said(first.content + rest.content, first.reasoning + rest.reasoning, first.calls)
        return SaidChoice(choice.index, said, choice.logprobs, _reason(ear, choice.why))

    def _counted(self, used: Usage) -> Usage:
        return Usage(used.tokens_in, used.tokens_out, used.cached, sum(text.thoughts for text in self._texts))


def parsed(inner: Shape, speech: Speech, id: str) -> Shape:
    """`inner`, with what was told apart in its places if it has any; else the text as the model wrote it."""
    if not (speech.names or speech.marks) or not isinstance(inner, ChatShape | RealtimeShape):
        return inner
    return ParsedShape(inner, speech, id)


def _reason(ear: Ear, why: Finish) -> str:
    reason = finish_reason(why)
    return CALLS if ear.has_called and reason == "stop" else reason
