"""Vectors and scores by real processes and the real models: a worker dies in the middle, and nothing is missing or different."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import DEFAULT, EMBEDDING, resolve
from cordee.config.load import cache_dir
from tests.engine.real import real_library
from tests.rig import HEADERS, KEY, Rig

pytestmark = [pytest.mark.e2e, pytest.mark.model]
TEXTS = [f"Sentence number {number} is about {number % 7} cats and {number % 5} dogs." for number in range(500)]
PATIENCE_S = 60.0


def needs(model: str) -> None:
    real_library()
    try:
        resolve(model, cache_dir(os.environ))
    except ModelError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    needs(EMBEDDING)
    with Rig(tmp_path_factory.mktemp("vectors"), EMBEDDING, environment={"CORDEE_ENGINE_THREADS": "1"}) as rig:
        yield rig


def client(rig: Rig) -> openai.OpenAI:
    return openai.OpenAI(base_url=rig.url, api_key=KEY, max_retries=0, timeout=PATIENCE_S)


def test_five_hundred_texts_survive_the_death_of_a_worker_to_the_last_bit(vectors: Rig) -> None:
    def embed() -> Any:
        return client(vectors).embeddings.with_raw_response.create(model=EMBEDDING, input=TEXTS)

    def killed_after(seconds: float) -> tuple[Any, str]:
        answers: list[Any] = []
        disturbed = threading.Thread(target=lambda: answers.append(embed()))
        disturbed.start()
        busy = wait_for_worker(vectors)
        time.sleep(seconds)
        vectors.kill_worker(busy)
        disturbed.join(PATIENCE_S)
        vectors.restart_worker(busy)
        vectors.wait_ready()
        (raw,) = answers
        return raw.parse(), vectors.get(f"/v1/calls/{raw.headers['x-request-id']}")

    whole = [entry.embedding for entry in embed().parse().data]
    calls, continued = 1, False
    for seconds in (0.3, 0.6, 1.2, 2.4):  # until some texts are done, however busy the machine is, and most are not
        found, receipt = killed_after(seconds)
        calls += 1
        assert [entry.index for entry in found.data] == list(range(len(TEXTS)))
        assert [entry.embedding for entry in found.data] == whole
        assert '"identical":true' in receipt
        continued = '"continued":1' in receipt
        if continued:
            assert '"continuation":"exact"' in receipt
            break
    assert continued
    assert vectors.metric("cordee_task_items_total") == calls * len(TEXTS)


def wait_for_worker(rig: Rig) -> int:
    """Which worker has the call."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        for number in range(2):
            if rig.metric_of("cordee_replica_calls", f'replica="worker-{number + 1}"') >= len(TEXTS):
                return number
        time.sleep(0.01)
    raise AssertionError("the call did not reach a worker")


def test_documents_are_ranked_by_what_they_say(vectors: Rig) -> None:
    documents = ["Bananas grow in Ecuador.", "Paris is the capital of France.", "The cat sleeps."]
    body = {"model": EMBEDDING, "query": "What is the capital of France?", "documents": documents, "top_n": 1}
    status, answer = vectors.post("/v1/rerank", body)
    assert status == 200
    assert [one["index"] for one in answer["results"]] == [1]


def test_a_request_with_a_key_is_computed_once(vectors: Rig) -> None:
    before = vectors.metric("cordee_task_items_total")
    bodies = []
    for _ in range(2):
        connection = http.client.HTTPConnection("127.0.0.1", vectors.ports[0], timeout=PATIENCE_S)
        headers = {**HEADERS, "Idempotency-Key": "once"}
        connection.request("POST", "/v1/embeddings", json.dumps({"model": EMBEDDING, "input": "x"}), headers)
        response = connection.getresponse()
        assert response.status == 200
        bodies.append(response.read())
    assert bodies[0] == bodies[1]
    assert vectors.metric("cordee_task_items_total") == before + 1


def test_what_is_probable_scores_higher(tmp_path: Path) -> None:
    needs(DEFAULT)
    with Rig(tmp_path, DEFAULT, workers=1, environment={"CORDEE_ENGINE_SLOTS": "4"}) as rig:
        asked = {"model": DEFAULT, "prompt": "The capital of France is", "continuations": [" Paris", " banana bread"]}
        status, first = rig.post("/v1/score", asked)
        assert status == 200, first
        likely, unlikely = first["data"]
        assert likely["logprob"] > unlikely["logprob"]
        assert [token["token"] for token in unlikely["tokens"]] == [" banana", " bread"]
        assert rig.post("/v1/score", asked)[1]["data"] == first["data"]
        judged = {"model": DEFAULT, "question": "What is the capital of France?"}
        scores = [
            rig.post("/v1/evaluate", {**judged, "answer": answer})[1] for answer in ("Paris", "Green ideas sleep.")
        ]
        assert all(0 <= one["score"] <= 1 for one in scores)  # so small a model is no judge
        assert scores[0]["logprob_mean"] > scores[1]["logprob_mean"]
        chat = rig.post("/v1/embeddings", {"model": DEFAULT, "input": "x"})
        assert chat[0] == 400
        assert chat[1]["error"]["code"] == "unsupported_task"
