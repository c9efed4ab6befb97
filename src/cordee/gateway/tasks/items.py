"""From a request to what is to be computed: the texts as token ids, each found to fit. Decides nothing about the way there.

These run beside the event loop where there is much text.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from cordee.domain.call import Item, Task, Work
from cordee.domain.record import record
from cordee.gateway.prepare import PIECE_BYTES_MAX, Model
from cordee.gateway.tasks.sink import TaskAnswer
from cordee.wire import embeddings, evaluate, rerank, score
from cordee.wire.embeddings import EmbeddingsAnswer, EmbeddingsRequest
from cordee.wire.errors import Invalid
from cordee.wire.evaluate import EvaluateAnswer, EvaluateRequest
from cordee.wire.rerank import Judgements, RerankAnswer, RerankRequest, Similarities
from cordee.wire.score import Cosines, LikenessAnswer, ScoreAnswer, ScoreRequest

NOTHING: array[int] = array("I")


@record
class Made:
    """Work for our own workers, and the answer that it becomes. `param`: the parameter that says how many texts there are."""

    work: Work
    answer: TaskAnswer
    param: str | None = None


def embed(body: EmbeddingsRequest, model: Model, context: int) -> Made:
    """Raises Invalid."""
    items = []
    for at, text in enumerate(embeddings.inputs(body)):
        param = f"input[{at}]" if isinstance(body.input, list) and text is not body.input else "input"
        if isinstance(text, str):
            items.append(_item(partial(model.vocabulary.whole, text), len(text), context, param))
        else:
            if any(token >= model.vocabulary.size for token in text):
                raise Invalid(f"{param!r} holds a token id beyond the vocabulary of {model.vocabulary.size}", param)
            items.append(_fitting(array("I", text), context, param))
    return Made(_work(Task.EMBED, items), EmbeddingsAnswer(body, len(items)), "input")


def rank(body: RerankRequest, model: Model, context: int) -> Made:
    """Raises Invalid."""
    texts = rerank.documents(body)
    words = model.vocabulary
    if Task.RANK.value in model.tasks:
        items = [
            _item(partial(words.pair, body.query, text), len(text), context, f"documents[{at}]")
            for at, text in enumerate(texts)
        ]
        return Made(_work(Task.RANK, items), RerankAnswer(body, Judgements(len(texts))), "documents")
    items = [_item(partial(words.whole, body.query), len(body.query), context, "query")]
    items += [
        _item(partial(words.whole, text), len(text), context, f"documents[{at}]") for at, text in enumerate(texts)
    ]
    return Made(_work(Task.EMBED, items), RerankAnswer(body, Similarities(len(texts))), "documents")


def compare(body: ScoreRequest, model: Model, context: int) -> Made:
    """Raises Invalid."""
    both, words = score.pairs(body), model.vocabulary
    if Task.RANK.value in model.tasks:
        items = [
            _item(partial(words.pair, *one), len(one[0]) + len(one[1]), context, f"text_2[{at}]")
            for at, one in enumerate(both)
        ]
        return Made(_work(Task.RANK, items), LikenessAnswer(body.model, Judgements(len(both))), "text_1")
    items = [
        _item(partial(words.whole, text), len(text), context, f"{name}[{at}]")
        for at, one in enumerate(both)
        for name, text in zip(("text_1", "text_2"), one, strict=True)
    ]
    return Made(_work(Task.EMBED, items), LikenessAnswer(body.model, Cosines(len(both))), "text_1")


def probability(body: ScoreRequest, model: Model, context: int) -> Made:
    """Raises Invalid."""
    texts, words = score.continuations(body), model.vocabulary
    assert body.prompt is not None
    _refuse_oversize(len(body.prompt), context, "prompt")
    prompt = words.encode(body.prompt, special=True, start=True)
    items, tokens = [], []
    for at, text in enumerate(texts):
        param = "continuation" if body.continuations is None else f"continuations[{at}]"
        items.append(_behind(prompt, text, model, context, param))
        tokens.append(items[-1].tokens[len(prompt) :])
    return Made(_work(Task.SCORE, items, model.adapter), ScoreAnswer(body.model, tokens, words.piece), "continuations")


def verdict(body: EvaluateRequest, model: Model, context: int) -> Made:
    """Raises Invalid."""
    _refuse_oversize(len(body.question) + len(body.answer), context, "answer")
    question = _prompt(model, [{"role": "user", "content": body.question}])
    judge = _prompt(model, evaluate.judges_messages(body))
    items = [_behind(judge, word, model, context, "answer") for word in evaluate.VERDICTS]
    items.append(_behind(question, body.answer, model, context, "answer"))
    return Made(_work(Task.SCORE, items, model.adapter), EvaluateAnswer(body.model))


def chars_in(body: EmbeddingsRequest | RerankRequest | ScoreRequest | EvaluateRequest) -> int:
    """How much there is to tokenise, for whoever decides where that is done."""
    return sum(map(len, _texts_of(body)))


def _texts_of(body: EmbeddingsRequest | RerankRequest | ScoreRequest | EvaluateRequest) -> Iterator[Sequence[object]]:
    match body:
        case EmbeddingsRequest():
            if isinstance(body.input, str):
                yield body.input
            else:
                yield from (text for text in body.input if isinstance(text, str | list))
        case RerankRequest():
            yield body.query
            yield from (one if isinstance(one, str) else one.text for one in body.documents)
        case ScoreRequest():
            for given in (body.prompt, body.continuation, body.continuations, body.text_1, body.text_2):
                if given is not None:
                    yield from [given] if isinstance(given, str) else given
        case EvaluateRequest():
            yield from (body.question, body.answer, body.reference or "", body.criteria or "")


def _work(task: Task, items: Sequence[Item], adapter: str = "") -> Work:
    return Work(NOTHING, 0, len(items), adapter=adapter, task=task, items=tuple(items))


def _item(tokenise: Callable[[], array[int]], chars: int, context: int, param: str) -> Item:
    _refuse_oversize(chars, context, param)
    return _fitting(tokenise(), context, param)


def _fitting(tokens: array[int], context: int, param: str) -> Item:
    if not tokens:
        raise Invalid(f"{param!r} has no token", param)
    if len(tokens) > context:
        raise _too_long(f"has {len(tokens)} tokens", context, param)
    return Item(tokens)


def _behind(prompt: array[int], text: str, model: Model, context: int, param: str) -> Item:
    """`text` as it goes on from `prompt`, to be scored."""
    _refuse_oversize(len(text), context, param)
    if not prompt:
        raise Invalid("'prompt' has no token", "prompt")
    tokens = prompt + model.vocabulary.encode(text, special=False)
    if len(tokens) == len(prompt):
        raise Invalid(f"{param!r} has no token", param)
    if len(tokens) > context:
        raise _too_long(f"has {len(tokens)} tokens together with what stands before it", context, param)
    return Item(tokens, len(prompt))


def _prompt(model: Model, messages: list[dict[str, str]]) -> array[int]:
    return model.template.encode(messages, marker=f"\ufdd0{secrets.token_hex(8)}\ufdd1")


def _refuse_oversize(chars: int, context: int, param: str) -> None:
    """Text that cannot fit whatever its tokens are is not worth tokenising."""
    if chars > context * PIECE_BYTES_MAX:
        raise _too_long(f"has more than {context * PIECE_BYTES_MAX} characters", context, param)


def _too_long(what: str, context: int, param: str) -> Invalid:
    return Invalid(
        f"{param!r} {what}, this model reads {context} at once; shorten it or cut it in pieces", param,
        code="context_length_exceeded",
    )  # fmt: skip
