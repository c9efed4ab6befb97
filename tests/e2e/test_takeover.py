"""A worker dies or freezes in the middle of answers, and nobody notices: real processes, real signals, the oracle engine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig, oracle_text, seeds, until

pytestmark = pytest.mark.e2e
TOKENS = 60
LONG = 300  # tokens of answers that must not be over when something is done to their worker, however busy the cores are


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as rig:
        yield rig


def text_of(events: list[dict[str, Any]], choice: int = 0) -> str:
    return "".join(c["delta"].get("content") or "" for e in events for c in e["choices"] if c["index"] == choice)


def body(seed: int, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hello"}]
    return {"model": "oracle", "messages": messages, "max_tokens": TOKENS, "seed": seed, "ignore_eos": True, **more}


def streams_during(rig: Rig, bodies: list[dict[str, Any]], event: Any) -> list[list[dict[str, Any]]]:
    """All bodies as streams at once; `event` runs when every one has begun."""
    begun = threading.Semaphore(0)

    def one(asked: dict[str, Any]) -> list[dict[str, Any]]:
        events = []
        for count, chunk in enumerate(rig.stream("/v1/chat/completions", asked)):
            events.append(chunk)
            if count == 5:
                begun.release()
        return events

    with ThreadPoolExecutor(len(bodies)) as pool:
        running = [pool.submit(one, asked) for asked in bodies]
        for _ in bodies:
            assert begun.acquire(timeout=20), "a stream did not begin"
        event()
        return [future.result(timeout=60) for future in running]


def assert_whole(events: list[dict[str, Any]], seed: int, tokens: int = TOKENS) -> None:
    assert text_of(events) == oracle_text(seed, tokens)
    assert len({event["id"] for event in events}) == 1
    assert [c["finish_reason"] for e in events for c in e["choices"] if c["finish_reason"]] == ["length"]
    assert sum("role" in c["delta"] for e in events for c in e["choices"]) == 1


def test_streams_go_on_without_loss_or_repetition_when_a_worker_is_killed(rig: Rig) -> None:
    asked = seeds(24)
    answers = streams_during(rig, [body(seed, max_tokens=LONG) for seed in asked], lambda: rig.kill_worker(0))
    for seed, events in zip(asked, answers, strict=True):
        assert_whole(events, seed, LONG)
    assert rig.metric("cordee_takeover_seconds_count") > 0, "no stream was on the killed worker"


def test_streams_go_on_when_a_worker_freezes_and_what_it_sends_later_is_dropped(rig: Rig) -> None:
    asked = seeds(24, of=2)
    bodies = [body(seed, temperature=1, max_tokens=LONG) for seed in asked]
    answers = streams_during(rig, bodies, lambda: rig.kill_worker(0, signal.SIGSTOP))
    for seed, events in zip(asked, answers, strict=True):
        assert_whole(events, seed, LONG)
    assert rig.metric("cordee_takeover_seconds_count") > 0, "no stream was on the frozen worker"
    os.kill(rig.workers[0].pid, signal.SIGCONT)
    rig.wait_ready()
    seed = seeds(1, of=3)[0]
    status, answer = rig.post("/v1/chat/completions", body(seed))
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == oracle_text(seed, TOKENS)


def test_several_choices_stop_strings_logprobs_and_whole_answers_survive_a_kill(rig: Rig) -> None:
    seed = seeds(1, of=4)[0]
    stop = oracle_text(seed, TOKENS).split()[40]
    bodies = [
        body(seed, n=3),
        body(seed, stop=[stop]),
        body(seed, logprobs=True, top_logprobs=1),
        body(seed, presence_penalty=0.5, frequency_penalty=0.5),
    ]
    with ThreadPoolExecutor(4) as pool:
        whole = [pool.submit(rig.post, "/v1/chat/completions", body(other)) for other in seeds(4, of=5)]
        answers = streams_during(rig, bodies, lambda: rig.kill_worker(1))
        for other, future in zip(seeds(4, of=5), whole, strict=True):
            status, answer = future.result(timeout=60)
            assert status == 200
            assert answer["choices"][0]["message"]["content"] == oracle_text(other, TOKENS)
    for choice in range(3):
        assert text_of(answers[0], choice) == oracle_text(seed + choice, TOKENS)
    assert text_of(answers[1]) == oracle_text(seed, TOKENS).split(stop)[0]
    entries = [entry for e in answers[2] for c in e["choices"] if c["logprobs"] for entry in c["logprobs"]["content"]]
    assert "".join(entry["token"] for entry in entries) == oracle_text(seed, TOKENS)
    assert text_of(answers[3]) == oracle_text(seed, TOKENS)


def test_a_call_waits_out_the_death_of_all_workers(rig: Rig) -> None:
    asked = seeds(6, of=6)

    def kill_both() -> None:
        rig.kill_worker(0)
        rig.kill_worker(1)
        rig.restart_worker(0)

    answers = streams_during(rig, [body(seed) for seed in asked], kill_both)
    for seed, events in zip(asked, answers, strict=True):
        assert_whole(events, seed)


def test_a_client_that_leaves_frees_its_slot(rig: Rig) -> None:
    stream = rig.stream("/v1/chat/completions", body(1, max_tokens=5000))
    for _ in range(3):
        next(stream)
    assert rig.metric("cordee_calls_open") == 1
    stream.close()  # type: ignore[attr-defined]
    del stream
    until(lambda: rig.metric("cordee_calls_open") == 0, "the call to be gone")
    until(lambda: rig.metric("cordee_replica_calls") == 0, "the seat to be free")


def test_sigterm_lets_streams_finish_and_ends_with_zero(rig: Rig) -> None:
    asked = seeds(8, of=7)
    gateway = rig.gateways[0]
    answers = streams_during(rig, [body(seed) for seed in asked], gateway.terminate)
    for seed, events in zip(asked, answers, strict=True):
        assert_whole(events, seed)
    assert gateway.wait(timeout=20) == 0
    for worker in rig.workers:
        worker.terminate()
    assert [worker.wait(timeout=20) for worker in rig.workers] == [0, 0]


def test_a_worker_that_drains_finishes_its_answers_and_gets_no_new_ones(rig: Rig) -> None:
    asked = seeds(8, of=8)
    answers = streams_during(rig, [body(seed) for seed in asked], rig.workers[0].terminate)
    for seed, events in zip(asked, answers, strict=True):
        assert_whole(events, seed)
    assert rig.workers[0].wait(timeout=20) == 0
    started = time.monotonic()
    status, _ = rig.post("/v1/chat/completions", body(1))
    assert status == 200
    assert time.monotonic() - started < 20
