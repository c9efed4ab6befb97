"""POST /v1/score: how probable a model finds texts behind a prompt; or how alike texts are. The typed bodies and the answers.

A request with `prompt` is about probability, and for models that write. One with `text_1` and `text_2` is vLLM's request of the same
name, about likeness, and for models that make vectors or compare.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.json import Decoder

from cordee.wire.errors import Invalid
from cordee.wire.floats import dot, floats
from cordee.wire.requests import Label, Model
from cordee.wire.rerank import Judgements
from cordee.wire.shape import Pieces, Usage, encode, usage

CONTINUATIONS_MAX = 128
PAIRS_MAX = 2048
Texts = Annotated[list[str], Meta(min_length=1, max_length=PAIRS_MAX)]


class ScoreRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of the request: `prompt` with `continuation` or `continuations`, or `text_1` with `text_2`."""

    model: Model
    prompt: str | None = None
    continuation: str | None = None
    continuations: Annotated[list[str], Meta(min_length=1, max_length=CONTINUATIONS_MAX)] | None = None
    text_1: str | Texts | None = None
    text_2: str | Texts | None = None
    user: Label | None = None


SCORE = Decoder(ScoreRequest)


def is_likeness(body: ScoreRequest) -> bool:
    """Whether two texts are to be compared. Raises Invalid for a request that is neither."""
    has_texts = body.text_1 is not None or body.text_2 is not None
    if has_texts and (body.prompt is not None or body.continuation is not None or body.continuations is not None):
        raise Invalid("send either 'prompt' with 'continuations', or 'text_1' with 'text_2'", "text_1")
    return has_texts


def continuations(body: ScoreRequest) -> list[str]:
    """The texts to be scored behind `prompt`. Raises Invalid."""
    if body.prompt is None:
        raise Invalid("you must provide 'prompt'", "prompt", code="missing_required_parameter")
    if not body.prompt:
        raise Invalid(
            "'prompt' is empty: the first token of a text has no probability with nothing before it", "prompt"
        )
    if (body.continuation is None) == (body.continuations is None):
        raise Invalid("you must provide 'continuation' or 'continuations'", "continuations")
    texts = body.continuations if body.continuations is not None else [body.continuation or ""]
    for at, text in enumerate(texts):
        if not text:
            param = f"continuations[{at}]" if body.continuations is not None else "continuation"
            raise Invalid(f"{param!r} is empty; there is nothing to score", param)
    return texts


def pairs(body: ScoreRequest) -> list[tuple[str, str]]:
    """What is to be compared: each of one side with its counterpart, or one text with each of the other side. Raises Invalid."""
    first, second = _side("text_1", body.text_1), _side("text_2", body.text_2)
    if len(first) != len(second) and len(first) != 1:
        raise Invalid(
            f"'text_1' has {len(first)} texts and 'text_2' {len(second)}; send equally many, or one", "text_1"
        )
    return list(zip(first * (len(second) // len(first)), second, strict=True))


def _side(name: str, given: str | list[str] | None) -> list[str]:
    if given is None:
        raise Invalid(f"you must provide {name!r}", name, code="missing_required_parameter")
    texts = [given] if isinstance(given, str) else given
    for at, text in enumerate(texts):
        if not text:
            raise Invalid(f"'{name}[{at}]' is empty; there is nothing to compare", f"{name}[{at}]")
    return texts


class ScoreAnswer:
    """The log-probabilities of one request. `tokens[i]`: what is scored of item i."""

    def __init__(self, model: str, tokens: Sequence[array[int]], pieces: Pieces) -> None:
        self._model = model
        self._tokens = tokens
        self._pieces = pieces
        self._logprobs: list[array[float]] = [array("f")] * len(tokens)

    def result(self, item: int, data: bytes) -> None:
        self._logprobs[item] = floats(data)

    def whole(self, id: str, created: int, used: Usage) -> bytes:
        data = [self._entry(at) for at in range(len(self._tokens))]
        return encode(
            {
                "id": f"score-{id}", "object": "list", "created": created, "model": self._model, "data": data,
                "usage": usage(used),
            }
        )  # fmt: skip

    def _entry(self, at: int) -> dict[str, Any]:
        logprobs = self._logprobs[at]
        total = math.fsum(logprobs)
        mean = total / len(logprobs)
        tokens = []
        for token, logprob in zip(self._tokens[at], logprobs, strict=True):
            piece = self._pieces(token)
            tokens.append(
                {"token": piece.decode("utf-8", "replace"), "id": token, "logprob": logprob, "bytes": list(piece)}
            )
        return {
            "index": at, "object": "score", "logprob": total, "mean_logprob": mean, "perplexity": perplexity(mean),
            "tokens": tokens,
        }  # fmt: skip


def perplexity(mean_logprob: float) -> float | None:
    """Of a text with this mean log-probability a token; None where it is beyond all numbers."""
    try:
        return math.exp(-mean_logprob)
    except OverflowError:
        return None


class Cosines:
    """Of pairs of vectors: items 2i and 2i + 1 are pair i."""

    def __init__(self, count: int) -> None:
        self.scores = [0.0] * count
        self._early: dict[int, array[float]] = {}

    def result(self, item: int, data: bytes) -> None:
        vector = floats(data)
        other = self._early.get(item ^ 1)
        if other is None:
            self._early[item] = vector
        else:
            self.scores[item // 2] = dot(other, vector)


class LikenessAnswer:
    """vLLM's answer to `text_1` and `text_2`."""

    def __init__(self, model: str, scores: Cosines | Judgements) -> None:
        self._model = model
        self._scores = scores
        self.result = scores.result

    def whole(self, id: str, created: int, used: Usage) -> bytes:
        data = [{"index": at, "object": "score", "score": score} for at, score in enumerate(self._scores.scores)]
        return encode(
            {
                "id": f"score-{id}", "object": "list", "created": created, "model": self._model, "data": data,
                "usage": usage(used),
            }
        )  # fmt: skip
