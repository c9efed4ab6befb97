"""The bodies of vectors, comparisons and probabilities: what may be asked, and what is answered."""

from __future__ import annotations

import base64
import json
import math
import struct
from array import array
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.wire import embeddings, evaluate, rerank, score
from cordee.wire.embeddings import INPUTS_MAX, EmbeddingsAnswer
from cordee.wire.errors import Invalid
from cordee.wire.evaluate import ANSWER, NO, YES, EvaluateAnswer, judges_messages
from cordee.wire.floats import dot, floats, packed, shortened
from cordee.wire.rerank import Judgements, RerankAnswer, Similarities, sigmoid
from cordee.wire.score import Cosines, LikenessAnswer, ScoreAnswer, perplexity
from cordee.wire.shape import Usage
from cordee.wire.strict import decode

USED = Usage(7, 0)
number = st.floats(-1e3, 1e3, width=32)


def data(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def embed(**more: Any) -> embeddings.EmbeddingsRequest:
    return decode(embeddings.EMBEDDINGS, json.dumps({"model": "m", **more}).encode())


# -- numbers


@given(st.lists(number, min_size=1))
def test_floats_survive_the_way_there_and_back(values: list[float]) -> None:
    assert floats(data(*values)).tolist() == array("f", values).tolist()
    assert packed(array("f", values)) == data(*values)


@given(st.lists(number, min_size=2, max_size=8).filter(lambda values: abs(values[0]) > 1e-3))
def test_a_shortened_vector_has_length_one(values: list[float]) -> None:
    short = shortened(array("f", values), len(values) - 1)
    assert len(short) == len(values) - 1
    assert dot(short, short) == pytest.approx(1.0, rel=1e-5)


# -- embeddings


@pytest.mark.parametrize(
    ("given", "texts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        (["a", [3]], ["a", [3]]),
    ],
)
def test_an_input_is_one_text_or_several_as_text_or_tokens(given: Any, texts: Any) -> None:
    assert embeddings.inputs(embed(input=given)) == texts


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ("", "input[0]"), ([], "input"), (["a", ""], "input[1]"), (["a", []], "input[1]"), (["a", 1], "input[1]"),
        ([1, "a"], "input[0]"), ([-1], "input[0]"), ([[1, True]], "input[0]"), ([None], "input[0]"),
        ([[1 << 32]], "input[0]"), (["a"] * (INPUTS_MAX + 1), "input"),
    ],
)  # fmt: skip
def test_an_input_that_is_none_is_refused_by_its_name(given: Any, param: str) -> None:
    with pytest.raises(Invalid) as caught:
        embeddings.inputs(embed(input=given))
    assert caught.value.param == param


def answered(answer: Any, *results: Sequence[float]) -> dict[str, Any]:
    for item, values in enumerate(results):
        answer.result(item, data(*values))
    found: dict[str, Any] = json.loads(answer.whole("id", 1, USED))
    return found


def test_vectors_are_told_as_numbers_or_as_their_bytes() -> None:
    plain = answered(EmbeddingsAnswer(embed(input="a"), 2), (0.5, -0.25), (1, 0))
    assert plain == {
        "object": "list",
        "model": "m",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]},
            {"object": "embedding", "index": 1, "embedding": [1.0, 0.0]},
        ],
    }
    short = answered(EmbeddingsAnswer(embed(input="a", encoding_format="base64"), 1), (0.5, -0.25))
    assert base64.b64decode(short["data"][0]["embedding"]) == data(0.5, -0.25)


def test_fewer_dimensions_are_the_first_ones_and_more_are_refused() -> None:
    fewer = answered(EmbeddingsAnswer(embed(input="a", dimensions=1), 1), (0.6, 0.8))
    assert fewer["data"][0]["embedding"] == [1.0]
    with pytest.raises(Invalid) as caught:
        answered(EmbeddingsAnswer(embed(input="a", dimensions=3), 1), (0.6, 0.8))
    assert caught.value.param == "dimensions"
    assert "have 2" in caught.value.message


def test_an_item_that_comes_twice_counts_once() -> None:
    answer = EmbeddingsAnswer(embed(input="a"), 1)
    answer.result(0, data(9))
    assert answered(answer, (1.0,))["data"] == [{"object": "embedding", "index": 0, "embedding": [1.0]}]


# -- rerank


def ranking(**more: Any) -> rerank.RerankRequest:
    body = {"model": "m", "query": "q", "documents": ["a", {"text": "b", "id": 4}, "c"], **more}
    return decode(rerank.RERANK, json.dumps(body).encode())


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_documents_are_ordered_by_likeness_whatever_comes_first(order: tuple[int, ...]) -> None:
    vectors = [(1.0, 0.0), (0.0, 1.0), (0.8, 0.6), (-1.0, 0.0)]
    answer = RerankAnswer(ranking(), Similarities(3))
    for item in order:
        answer.result(item, data(*vectors[item]))
    found = json.loads(answer.whole("id", 1, USED))
    assert [result["index"] for result in found["results"]] == [1, 0, 2]
    assert [result["relevance_score"] for result in found["results"]] == pytest.approx([0.8, 0.0, -1.0])
    assert found["usage"]["total_tokens"] == found["meta"]["tokens"]["input_tokens"] == 7


def test_the_best_few_come_with_their_texts_where_asked() -> None:
    found = answered(RerankAnswer(ranking(top_n=2, return_documents=True), Judgements(3)), (-2,), (2,), (0,))
    assert [(one["index"], one["document"]["text"]) for one in found["results"]] == [(1, "b"), (2, "c")]
    assert found["results"][1]["relevance_score"] == 0.5


@given(st.floats(-1e6, 1e6))
def test_a_sigmoid_is_a_share(logit: float) -> None:
    assert 0.0 <= sigmoid(logit) <= 1.0
    assert sigmoid(logit) + sigmoid(-logit) == pytest.approx(1.0)


def test_an_empty_document_is_refused_by_its_name() -> None:
    with pytest.raises(Invalid) as caught:
        rerank.documents(ranking(documents=["a", {"text": ""}]))
    assert caught.value.param == "documents[1]"


# -- score


def scoring(**more: Any) -> score.ScoreRequest:
    return decode(score.SCORE, json.dumps({"model": "m", **more}).encode())


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({}, "prompt"),
        ({"prompt": "", "continuation": "a"}, "prompt"),
        ({"prompt": "a"}, "continuations"),
        ({"prompt": "a", "continuation": "b", "continuations": ["c"]}, "continuations"),
        ({"prompt": "a", "continuation": ""}, "continuation"),
        ({"prompt": "a", "continuations": ["b", ""]}, "continuations[1]"),
    ],
)
def test_a_score_needs_a_prompt_and_what_follows(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        score.continuations(scoring(**asked))
    assert caught.value.param == param


def test_texts_are_compared_one_by_one_or_one_with_all() -> None:
    assert score.pairs(scoring(text_1="a", text_2=["b", "c"])) == [("a", "b"), ("a", "c")]
    assert score.pairs(scoring(text_1=["a", "b"], text_2=["c", "d"])) == [("a", "c"), ("b", "d")]
    for wrong in ({"text_1": ["a", "b"], "text_2": "c"}, {"text_1": "a"}, {"text_1": "a", "text_2": ["b", ""]}):
        with pytest.raises(Invalid):
            score.pairs(scoring(**wrong))


def test_a_request_is_about_likeness_or_probability() -> None:
    assert score.is_likeness(scoring(text_1="a", text_2="b"))
    assert not score.is_likeness(scoring(prompt="a", continuation="b"))
    with pytest.raises(Invalid):
        score.is_likeness(scoring(text_1="a", prompt="b"))


def test_probabilities_are_told_in_all_and_of_each_token() -> None:
    tokens = [array("I", list(b"hi")), array("I", [200])]
    found = answered(ScoreAnswer("m", tokens, lambda token: bytes([token])), (-0.5, -1.5), (-0.25,))
    first, second = found["data"]
    assert (first["logprob"], first["mean_logprob"]) == (-2.0, -1.0)
    assert first["perplexity"] == pytest.approx(math.e)
    assert first["tokens"][1] == {"token": "i", "id": 105, "logprob": -1.5, "bytes": [105]}
    assert second["tokens"][0]["token"] == "\ufffd"
    assert found["usage"]["prompt_tokens"] == 7


def test_perplexity_beyond_all_numbers_is_none() -> None:
    assert perplexity(-1e6) is None
    assert perplexity(0.0) == 1.0


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_pairs_are_compared_whatever_comes_first(order: tuple[int, ...]) -> None:
    vectors = [(1.0, 0.0), (0.6, 0.8), (0.0, 1.0), (0.0, -1.0)]
    answer = LikenessAnswer("m", Cosines(2))
    for item in order:
        answer.result(item, data(*vectors[item]))
    found = json.loads(answer.whole("id", 1, USED))
    assert [entry["score"] for entry in found["data"]] == pytest.approx([0.6, -1.0])


# -- evaluate


def test_the_judge_is_shown_all_there_is() -> None:
    body = {"model": "m", "question": "Q?", "answer": "A.", "reference": "R.", "criteria": "C."}
    _, user = judges_messages(decode(evaluate.EVALUATE, json.dumps(body).encode()))
    assert all(part in user["content"] for part in ("Q?", "A.", "R.", "C."))


def test_a_score_is_the_share_of_yes() -> None:
    answer = EvaluateAnswer("m")
    answer.result(NO, data(math.log(0.1)))
    answer.result(YES, data(math.log(0.6), math.log(0.5)))
    answer.result(ANSWER, data(-1.0, -3.0))
    found = json.loads(answer.whole("id", 1, USED))
    assert found["score"] == pytest.approx(0.75)
    assert found["confidence"] == pytest.approx(0.4)
    assert (found["verdict"], found["logprob_mean"]) == ("yes", -2.0)


def test_an_impossible_verdict_is_even_and_worth_nothing() -> None:
    answer = EvaluateAnswer("m")
    for item in (YES, NO, ANSWER):
        answer.result(item, data(-math.inf))
    found = json.loads(answer.whole("id", 1, USED))
    assert (found["score"], found["confidence"], found["verdict"]) == (0.5, 0.0, "no")
