"""POST /v1/rerank: the typed body in the form that Cohere, Jina and vLLM share, and the answer.

With a model that makes vectors a document's score is the cosine between it and the query, from −1 to 1. With one that was trained
to compare two texts it is that model's own number through a sigmoid, from 0 to 1, as those services give it.
"""

from __future__ import annotations

import math
from array import array
from typing import Annotated, Any

from msgspec import Meta, Struct
from msgspec.json import Decoder

from cordee.wire.errors import Invalid
from cordee.wire.floats import dot, floats
from cordee.wire.requests import Label, Model
from cordee.wire.shape import Usage, encode

DOCUMENTS_MAX = 2048
LOGIT_MAX = 700.0  # beyond it exp() overflows, and the sigmoid is 0 or 1 to the last bit


class Document(Struct, frozen=True):
    """A document that is more than a text; the rest of it is given back and not read."""

    text: str


class RerankRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of the request."""

    model: Model
    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | Document], Meta(min_length=1, max_length=DOCUMENTS_MAX)]
    top_n: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    return_documents: bool | None = None
    user: Label | None = None


RERANK = Decoder(RerankRequest)


def documents(body: RerankRequest) -> list[str]:
    """Raises Invalid."""
    texts = [one if isinstance(one, str) else one.text for one in body.documents]
    for at, text in enumerate(texts):
        if not text:
            raise Invalid(f"'documents[{at}]' is empty; leave it out", f"documents[{at}]")
    return texts


def sigmoid(logit: float) -> float:
    """From 0 to 1."""
    return 1.0 / (1.0 + math.exp(-max(-LOGIT_MAX, min(LOGIT_MAX, logit))))


class Similarities:
    """Cosines to the vector of item 0, of all items behind it: number i is that of item i + 1."""

    def __init__(self, count: int) -> None:
        self.scores = [0.0] * count
        self._first: array[float] | None = None
        self._early: dict[int, array[float]] = {}  # vectors that came before that of item 0

    def result(self, item: int, data: bytes) -> None:
        vector = floats(data)
        if item == 0:
            self._first = vector
            for other, early in self._early.items():
                self.scores[other - 1] = dot(vector, early)
            self._early.clear()
        elif self._first is None:
            self._early[item] = vector
        else:
            self.scores[item - 1] = dot(self._first, vector)


class Judgements:
    """What a model that compares says of each pair."""

    def __init__(self, count: int) -> None:
        self.scores = [0.0] * count

    def result(self, item: int, data: bytes) -> None:
        self.scores[item] = sigmoid(floats(data)[0])


class RerankAnswer:
    """The documents of one request, the best first; among equals in the order in which they came."""

    def __init__(self, body: RerankRequest, scores: Similarities | Judgements) -> None:
        self._body = body
        self._scores = scores
        self.result = scores.result

    def whole(self, id: str, created: int, used: Usage) -> bytes:
        del created
        body, scores = self._body, self._scores.scores
        order = sorted(range(len(scores)), key=lambda at: -scores[at])
        results: list[dict[str, Any]] = []
        for at in order[: body.top_n]:
            result: dict[str, Any] = {"index": at, "relevance_score": scores[at]}
            if body.return_documents:
                given = body.documents[at]
                result["document"] = {"text": given if isinstance(given, str) else given.text}
            results.append(result)
        return encode(
            {
                "id": f"rerank-{id}",
                "object": "list",
                "model": body.model,
                "results": results,
                "usage": {"prompt_tokens": used.tokens_in, "total_tokens": used.tokens_in},
                "meta": {"tokens": {"input_tokens": used.tokens_in}},
            }
        )
