"""The scheduler of a real model as a client meets it: prompts that are known are not computed again, and urgent calls find room."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.engine.real import real_library, real_model
from tests.rig import Rig, until

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(300)]

PATH = "/v1/chat/completions"
SYSTEM = "You are the keeper of a mountain hut and answer guests in one short sentence. " * 8
SLOTS = 2


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    real_library()
    directory: Path = tmp_path_factory.mktemp("scheduling")
    model = str(real_model())
    flags = ("--slots", str(SLOTS), "--context", "512", "--threads", "1")
    with Rig(directory, model=model, workers=1, worker_flags=flags, environment={"CORDEE_ENGINE_SPARE": "1"}) as rig:
        yield rig


def body(rig: Rig, question: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]
    return {
        "model": Path(rig.model).stem, "messages": messages, "temperature": 0, "max_tokens": 24, "ignore_eos": True, **more,
    }  # fmt: skip


def answer(rig: Rig, asked: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    status, said = rig.post(PATH, asked, timeout_s=240)
    assert status == 200, said
    return said["choices"][0]["message"]["content"], said["usage"]


def test_a_system_prompt_is_computed_once_and_usage_says_so(rig: Rig):
    first, usage = answer(rig, body(rig, "Is there soup?"))
    again, repeated = answer(rig, body(rig, "Is there soup?"))
    assert again == first
    assert repeated["prompt_tokens"] == usage["prompt_tokens"]
    assert repeated["prompt_tokens_details"]["cached_tokens"] == usage["prompt_tokens"] - 1
    _, other = answer(rig, body(rig, "Where does the path begin?"))
    assert other["prompt_tokens_details"]["cached_tokens"] > 90
    assert rig.metric("cordee_prompt_tokens_cached_total") > 150
    until(lambda: rig.metric_of("cordee_engine_prompt_tokens_total", "cached") > 150, "the worker's own count")


def test_urgent_calls_begin_while_others_fill_all_slots_and_nobody_loses_a_token(rig: Rig):
    questions = [f"Tell me about stone number {number}." for number in range(5 * SLOTS)]
    background = [body(rig, question, max_tokens=60, service_tier="flex") for question in questions]
    with ThreadPoolExecutor(len(background)) as pool:
        running = [pool.submit(answer, rig, asked) for asked in background]
        until(lambda: rig.metric("cordee_replica_calls") >= SLOTS, "all slots run")
        for number in range(3):
            answer(
                rig, body(rig, f"Urgent question {number}: is the pass open?", max_tokens=4, service_tier="priority")
            )
            left = sum(not one.done() for one in running)
            assert left, "others still waited when the urgent one had its answer"
        texts = [future.result(timeout=240)[0] for future in running]
    until(lambda: rig.metric("cordee_engine_preemptions_total") >= 1, "somebody made room")
    assert texts[:3] == [answer(rig, asked)[0] for asked in background[:3]]
    until(lambda: rig.metric("cordee_engine_parked") == 0, "the worker to say that nobody waits to go on")
