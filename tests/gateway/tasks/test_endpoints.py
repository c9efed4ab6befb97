"""The endpoints of tasks with a real server, the official client and a worker in memory."""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from cordee.domain.call import Item, Task
from cordee.domain.chunk import Finish
from cordee.gateway.prepare import Model
from cordee.gateway.tasks.endpoints import Tasks
from cordee.ports import Receiver
from cordee.wire.template import Template
from tests.gateway.doubles import CONTEXT, KEY, Bytes, Gateway

WIDTH = 2
LONG = "x" * 10_000  # is tokenised in a thread


def vector(item: Item) -> bytes:
    """The first token decides where a text points to."""
    return struct.pack("<2f", *((1.0, 0.0) if item.tokens[0] < ord("n") else (0.0, 1.0)))


class Reader:
    """What a worker makes of a call. It breaks off once after `breaks_at` items."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.breaks_at = -1
        self.asked: list[int] = []

    def act(self, receiver: Receiver, attempt: int) -> bool:
        work = self._gateway.worker.calls[-1].work
        assert work is not None
        for at, item in enumerate(work.items):
            if at == self.breaks_at and attempt == 1:
                receiver.broken("it died", ran=True)
                return True
            if attempt > 1 and at < self.breaks_at:
                continue  # done already
            self.asked.append(at)
            if work.task is Task.SCORE:
                receiver.result(at, array("f", [-0.5] * (len(item.tokens) - item.start)).tobytes())
            elif work.task is Task.RANK:
                receiver.result(at, struct.pack("<f", float(len(item.tokens))))
            else:
                receiver.result(at, vector(item))
            receiver.finish(at, 0, Finish.STOP)
        return True


@pytest.fixture(scope="module")
def shared() -> Iterator[Gateway]:
    with Gateway(sequences=2500) as gateway:
        gateway.call(
            lambda: Tasks(gateway.calls, gateway._roster, gateway.calls._walks, gateway.calls._clock).join(
                gateway.front.paths
            )
        )
        yield gateway
    assert gateway.faults == []


@pytest.fixture
def gateway(shared: Gateway) -> Iterator[Gateway]:
    shared.worker.calls.clear()
    can(shared, Task.EMBED)
    shared.reader = Reader(shared)  # type: ignore[attr-defined]
    shared.worker.act = shared.reader.act  # type: ignore[attr-defined]
    yield shared
    assert shared.replica.mine == 0, "a seat was not given back"
    assert shared.call(lambda: len(shared.watch.open)) == 0


def can(gateway: Gateway, *tasks: Task) -> None:
    vocabulary = Bytes()
    names = tuple(task.value for task in tasks)
    gateway.calls.models["m"] = Model("m", vocabulary, Template(vocabulary), tasks=names)


def ask(gateway: Gateway, path: str, **body: Any) -> tuple[int, Any]:
    status, _, data = gateway.ask({"model": "m", **body}, path)
    return status, json.loads(data)


def refused(answer: tuple[int, Any], status: int = 400) -> dict[str, Any]:
    assert answer[0] == status, answer
    error: dict[str, Any] = answer[1]["error"]
    return error


def test_the_official_client_gets_vectors(gateway: Gateway) -> None:
    client = openai.OpenAI(base_url=gateway.url, api_key=KEY, max_retries=0, timeout=5)
    short = client.embeddings.create(model="m", input=["a", "z"])
    plain = client.embeddings.create(model="m", input=["a", "z"], encoding_format="float", dimensions=1)
    assert [entry.embedding for entry in short.data] == [[1.0, 0.0], [0.0, 1.0]]
    assert [entry.embedding for entry in plain.data] == [[1.0], [0.0]]
    assert short.usage.total_tokens == 2


def test_a_call_is_one_answer_with_an_id_and_a_place_in_the_books(gateway: Gateway) -> None:
    before = gateway.call(lambda: gateway.metrics._models["m"].tokens_in if "m" in gateway.metrics._models else 0)
    status, headers, _ = gateway.ask({"model": "m", "input": "abc"}, "/v1/embeddings")
    (call,) = gateway.worker.calls
    assert status == 200
    assert headers["x-request-id"] == call.id
    assert (call.sequences, call.cost, call.local_only) == (1, 3, True)
    assert gateway.call(lambda: gateway.metrics._models["m"].tokens_in) == before + 3


def test_what_broke_off_goes_on_with_the_items_that_are_missing(gateway: Gateway) -> None:
    gateway.reader.breaks_at = 3  # type: ignore[attr-defined]
    status, body = ask(gateway, "/v1/embeddings", input=["a"] * 5)
    assert status == 200
    assert [entry["index"] for entry in body["data"]] == [0, 1, 2, 3, 4]
    assert gateway.reader.asked == [0, 1, 2, 3, 4]  # type: ignore[attr-defined]


def test_much_text_is_prepared_beside_the_loop(gateway: Gateway) -> None:
    gateway.call(lambda: gateway._roster.contexts.update(m=20_000))
    try:
        assert ask(gateway, "/v1/embeddings", input=[LONG])[0] == 200
        error = refused(ask(gateway, "/v1/embeddings", input=[LONG * 3]))
    finally:
        gateway.call(lambda: gateway._roster.contexts.update(m=CONTEXT))
    assert (error["param"], error["code"]) == ("input[0]", "context_length_exceeded")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": "x" * (CONTEXT + 1)}, "input"),
        ({"input": [[999]]}, "input[0]"),
        ({"input": "a", "dimensions": 3}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "color": 1}, "color"),
        ({"input": ["a"] * 2049}, "input"),
    ],
)
def test_a_bad_request_is_told_which_parameter(gateway: Gateway, body: dict[str, Any], param: str) -> None:
    assert refused(ask(gateway, "/v1/embeddings", **body))["param"] == param


def test_a_model_that_does_not_exist_is_not_found(gateway: Gateway) -> None:
    assert refused(ask(gateway, "/v1/embeddings", model="nope", input="a"), 404)["code"] == "model_not_found"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_model_that_reads_writes_nothing(gateway: Gateway, path: str) -> None:
    more = {"messages": [{"role": "user", "content": "a"}]} if "chat" in path else {"prompt": "a"}
    error = refused(ask(gateway, path, **more))
    assert (error["param"], error["code"]) == ("model", "unsupported_task")
    assert "/v1/embeddings" in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "task"),
    [
        ("/v1/embeddings", {"input": "a"}, Task.GENERATE),
        ("/v1/embeddings", {"input": "a"}, Task.RANK),
        ("/v1/rerank", {"query": "a", "documents": ["b"]}, Task.SCORE),
        ("/v1/score", {"text_1": "a", "text_2": "b"}, Task.SCORE),
        ("/v1/score", {"prompt": "a", "continuation": "b"}, Task.EMBED),
        ("/v1/evaluate", {"question": "a", "answer": "b"}, Task.GENERATE),
    ],
)
def test_a_task_that_a_model_cannot_do_is_refused(
    gateway: Gateway, path: str, body: dict[str, Any], task: Task
) -> None:
    can(gateway, task)
    assert refused(ask(gateway, path, **body))["code"] == "unsupported_task"


def test_documents_are_ranked_by_vectors_or_by_a_model_that_compares(gateway: Gateway) -> None:
    asked = {"query": "a", "documents": ["zzz", "bb"]}
    status, body = ask(gateway, "/v1/rerank", **asked)
    assert status == 200
    assert [(one["index"], one["relevance_score"]) for one in body["results"]] == [(1, 1.0), (0, 0.0)]
    can(gateway, Task.RANK)
    _, body = ask(gateway, "/v1/rerank", **asked)
    assert [one["index"] for one in body["results"]] == [0, 1]


def test_texts_are_compared(gateway: Gateway) -> None:
    _, body = ask(gateway, "/v1/score", text_1="a", text_2=["b", "z"])
    assert [one["score"] for one in body["data"]] == [1.0, 0.0]


def test_continuations_are_scored_from_where_they_begin(gateway: Gateway) -> None:
    can(gateway, Task.GENERATE, Task.SCORE)
    _, body = ask(gateway, "/v1/score", prompt="say ", continuations=["yes", "é"])
    assert [one["logprob"] for one in body["data"]] == [-1.5, -1.0]
    assert [token["token"] for token in body["data"][0]["tokens"]] == ["y", "e", "s"]
    (call,) = gateway.worker.calls
    assert call.work is not None
    assert [item.start for item in call.work.items] == [4, 4]


def test_an_answer_is_evaluated(gateway: Gateway) -> None:
    can(gateway, Task.GENERATE, Task.SCORE)
    status, body = ask(gateway, "/v1/evaluate", question="1 + 1?", answer="2", reference="2")
    assert status == 200
    assert 0 <= body["score"] <= 1
    assert body["logprob_mean"] == -0.5
    (call,) = gateway.worker.calls
    assert call.work is not None
    assert [len(item.tokens) - item.start for item in call.work.items] == [3, 2, 1]


def test_more_texts_than_a_worker_takes_are_refused(gateway: Gateway) -> None:
    can(gateway, Task.RANK)
    gateway.replica.capacity = type(gateway.replica.capacity)(1, 100)
    try:
        error = refused(ask(gateway, "/v1/rerank", query="a", documents=["b", "c"]))
    finally:
        gateway.replica.capacity = type(gateway.replica.capacity)(2500, 100_000)
    assert "take 1 texts at once" in error["message"]
    assert error["param"] == "documents"
