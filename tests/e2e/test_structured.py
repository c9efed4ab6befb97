"""JSON answers by the real model, with real processes: worker killed in the middle, and schemas that are meant to hurt."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cordee.adapters.models import DEFAULT
from tests.engine.real import real_library, real_model
from tests.rig import Rig

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(180)]

CALLS = 4
ROW = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 10},
        "points": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "points"],
    "additionalProperties": False,
}
TABLE = {"type": "array", "items": ROW, "minItems": 5, "maxItems": 5}
SLOW = {"type": "integer", "multipleOf": 999_983}  # to compile it takes many seconds
LOOKS_LEAST = (
    8  # that are answered while it is compiled, which takes a second: a loop that waited for it would answer one
)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    real_library(), real_model()
    directory: Path = tmp_path_factory.mktemp("structured")
    settings = {"CORDEE_ENGINE_SLOTS": "4", "CORDEE_ENGINE_CONTEXT": "512", "CORDEE_ENGINE_THREADS": "1"}
    with Rig(directory, model=DEFAULT, workers=2, environment=settings) as rig:
        yield rig


def asked(seed: int, schema: Any = TABLE, **more: Any) -> dict[str, Any]:
    return {
        "model": DEFAULT, "messages": [{"role": "user", "content": "A table of players and points, as JSON."}], "seed": seed,
        "response_format": {"type": "json_schema", "json_schema": {"name": "table", "schema": schema, "strict": True}}, **more,
    }  # fmt: skip


def text_of(events: list[dict[str, Any]]) -> str:
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


def assert_table(text: str) -> None:
    rows = json.loads(text)
    assert len(rows) == 5
    for row in rows:
        assert list(row) == ["name", "points"]
        assert isinstance(row["name"], str)
        assert 0 <= row["points"] <= 99


def test_every_answer_is_what_its_schema_says_streamed_or_not(rig: Rig):
    status, whole = rig.post("/v1/chat/completions", asked(1, n=2, logprobs=True))
    assert status == 200, whole
    for choice in whole["choices"]:
        assert choice["finish_reason"] == "stop"
        assert_table(choice["message"]["content"])
        assert choice["logprobs"]["content"]
    assert_table(text_of(list(rig.stream("/v1/chat/completions", asked(2)))))


def test_where_the_limit_is_reached_first_the_answer_says_so(rig: Rig):
    status, cut = rig.post("/v1/chat/completions", asked(1, max_tokens=6))
    assert status == 200
    assert cut["choices"][0]["finish_reason"] == "length"
    assert cut["usage"]["completion_tokens"] == 6


def test_a_schema_that_takes_too_long_is_refused_while_others_go_on(rig: Rig):
    done, looks = threading.Event(), []

    def look() -> None:
        while not done.is_set():
            looks.append(rig.get("/healthz"))
            done.wait(0.02)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        status, body = rig.post("/v1/chat/completions", asked(1, SLOW))
    finally:
        done.set()
        watch.join()
    assert status == 400
    assert body["error"]["param"] == "response_format.json_schema.schema"
    assert "longer than" in body["error"]["message"]
    assert looks.count("ok\n") >= LOOKS_LEAST
    assert rig.post("/v1/chat/completions", asked(1, {"type": "boolean"}))[1]["choices"][0]["finish_reason"] == "stop"


def test_killed_in_the_middle_the_answer_goes_on_and_is_the_same(rig: Rig):
    bodies = [
        asked(seed, temperature=temperature) for seed, temperature in zip(range(CALLS), (0, 0.5, 1, 1), strict=True)
    ]
    undisturbed = [text_of(list(rig.stream("/v1/chat/completions", body))) for body in bodies]
    begun = threading.Semaphore(0)

    def one(body: dict[str, Any]) -> str:
        events = []
        for count, event in enumerate(rig.stream("/v1/chat/completions", body)):
            events.append(event)
            if count == 6:
                begun.release()
        return text_of(events)

    with ThreadPoolExecutor(CALLS) as pool:
        running = [pool.submit(one, body) for body in bodies]
        for _ in bodies:
            assert begun.acquire(timeout=60), "a stream did not begin"
        calls = [rig.metric_of("cordee_replica_calls", f'replica="worker-{number}"') for number in (1, 2)]
        rig.kill_worker(calls.index(max(calls)))  # the other may have answered all of its own by now
        answers = [future.result(timeout=90) for future in running]
    assert answers == undisturbed
    assert rig.metric("cordee_takeover_seconds_count") > 0, "no answer was on the killed worker"
    for text in answers:
        assert_table(text)
