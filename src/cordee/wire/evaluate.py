"""POST /v1/evaluate: how good an answer is, as the model itself would have it. The typed body, what the model is asked, the answer.

The model reads question and answer and is asked whether the answer is right; nothing is sampled. The score is the probability of
"Yes" among "Yes" and "No", the confidence how much of all probability these two words have together: little of it means that the
model did not understand what it was asked. Beside it stands the mean log-probability of the answer behind the question. Asking a
model for P(True): Kadavath et al., "Language models (mostly) know what they know", 2022. It is an estimate, and a small model's is a
rough one.
"""

from __future__ import annotations

import math
from array import array
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.json import Decoder

from cordee.wire.floats import floats
from cordee.wire.requests import Label, Model
from cordee.wire.score import perplexity
from cordee.wire.shape import Usage, encode, usage

YES, NO, ANSWER = 0, 1, 2  # items: the two verdicts behind the judge's prompt, and the answer behind the question
VERDICTS = ("Yes", "No")
EVEN = 0.5

INSTRUCTION = (
    "You check answers. Read the question and the answer. Reply with one word: Yes if the answer is correct and "
    "answers the question, No if it does not."
)
Written = Annotated[str, Meta(min_length=1)]


class EvaluateRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Body of the request. `reference`: an answer that is known to be right. `criteria`: what else an answer must be."""

    model: Model
    question: Written
    answer: Written
    reference: Written | None = None
    criteria: Written | None = None
    user: Label | None = None


EVALUATE = Decoder(EvaluateRequest)


def judges_messages(body: EvaluateRequest) -> list[dict[str, str]]:
    """What the model is asked; the verdict comes behind it."""
    parts = [f"Question: {body.question}", f"Answer: {body.answer}"]
    if body.reference is not None:
        parts.append(f"A correct answer would be: {body.reference}")
    if body.criteria is not None:
        parts.append(f"The answer must also meet this: {body.criteria}")
    parts.append("Is the answer correct? Reply Yes or No.")
    return [{"role": "system", "content": INSTRUCTION}, {"role": "user", "content": "\n\n".join(parts)}]


class EvaluateAnswer:
    """One evaluation."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._logprobs: dict[int, array[float]] = {}

    def result(self, item: int, data: bytes) -> None:
        self._logprobs[item] = floats(data)

    def whole(self, id: str, created: int, used: Usage) -> bytes:
        yes, no = (math.exp(math.fsum(self._logprobs[item])) for item in (YES, NO))
        said = self._logprobs[ANSWER]
        mean = math.fsum(said) / len(said)
        score = yes / (yes + no) if yes + no > 0 else EVEN
        return encode(
            {
                "id": f"eval-{id}",
                "object": "evaluation",
                "created": created,
                "model": self._model,
                "score": score,
                "confidence": min(1.0, yes + no),
                "verdict": "yes" if score > EVEN else "no",
                "logprob_mean": mean,
                "perplexity": perplexity(mean),
                "usage": usage(used),
            }
        )
