"""What the answers of all endpoints have in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.wire.text import Text

Pieces = Callable[[int], bytes]
encode = msgspec.json.Encoder().encode
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Choice:
    """One complete choice. `logprobs`: one entry a token, as `Shape.position` made them."""

    index: int
    text: str
    logprobs: list[dict[str, Any]] | None
    why: Finish


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer, over all its choices. `cached`: of the prompt, those that need not be computed; `reasoning`: of the
    answer, those the model thought with."""

    tokens_in: int
    tokens_out: int
    cached: int = 0
    reasoning: int = 0


class Shape(Protocol):
    """The bytes of an endpoint's answers: events of a stream, each complete, or one body. An event without bytes is not sent.

    `done`: what follows the last event.
    """

    done: bytes

    def texts(self, pieces: Pieces, stops: tuple[str, ...], n: int) -> list[Text]:
        """What makes text of the tokens of `n` choices."""
        ...

    def skip(self, choice: int, text: str) -> None:
        """The client has this text already: `delta` goes on behind it."""
        ...

    def verbatim(self) -> None:
        """What comes is the text of another server, which has told its reasoning apart already."""
        ...

    def open(self, choice: int) -> bytes:
        """What comes before the first token of a choice; may be empty."""
        ...

    def delta(self, choice: int, text: str, logprobs: list[dict[str, Any]] | None) -> bytes:
        """May be empty, where what the text means is not clear yet."""
        ...

    def close(self, choice: int, why: Finish) -> bytes: ...

    def usage(self, used: Usage) -> bytes: ...

    def whole(self, choices: list[Choice], used: Usage) -> bytes: ...

    def placed(self, event: bytes, stream: str, position: str) -> bytes:
        """An event with its place in a stream that can be resumed: `position` is `<index>.<rolling hash>`."""
        ...

    def position(self, pieces: Pieces, token: int, logprobs: TokenLogprobs, offset: int) -> dict[str, Any]:
        """The entry of one token; `offset` is where its text begins."""
        ...


class TextShape:
    """What all shapes have in common that show the text as it is."""

    def texts(self, pieces: Pieces, stops: tuple[str, ...], n: int) -> list[Text]:
        return [Text(pieces, stops) for _ in range(n)]

    def skip(self, choice: int, text: str) -> None: ...

    def verbatim(self) -> None: ...


def finish_reason(why: Finish) -> str:
    return "length" if why is Finish.LENGTH else "stop"


def usage(used: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": used.tokens_in,
        "completion_tokens": used.tokens_out,
        "total_tokens": used.tokens_in + used.tokens_out,
        "prompt_tokens_details": {"cached_tokens": used.cached},
        "completion_tokens_details": {"reasoning_tokens": used.reasoning},
    }


def placed_event(event: bytes, stream: str, position: str) -> bytes:
    """A server-sent event with its id, which clients send back as Last-Event-ID."""
    return b"id: %s.%s\n%s" % (stream.encode(), position.encode(), event)


def error_event(body: bytes) -> bytes:
    """An error in the middle of a stream: the official clients raise APIError on it."""
    return b"data: " + body + b"\n\n"
