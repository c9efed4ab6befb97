"""A worker that lies, and one whose engine stops while its process is well: real processes, found out and left out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.rig import Rig, oracle_text, seeds, until

pytestmark = pytest.mark.e2e
INTERVAL_S, TIMEOUT_S = 4.0, 2.0
LATE_S = 1.5  # for calls to get there on busy cores; with it still sooner than the stuck engine is given up
TOKENS = 4
ENVIRONMENT = {"CORDEE_CANARY_INTERVAL_S": str(INTERVAL_S), "CORDEE_CANARY_DEAD_S": "4"}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path, environment=ENVIRONMENT) as rig:
        yield rig


def is_right(rig: Rig, seed: int) -> bool:
    """Each begins in its own way: calls that begin alike would all meet the same one of two idle workers."""
    messages = [{"role": "user", "content": f"{seed} hello"}]
    body: dict[str, Any] = {
        "model": "oracle",
        "messages": messages,
        "max_tokens": TOKENS,
        "seed": seed,
        "ignore_eos": True,
    }
    status, answer = rig.post("/v1/chat/completions", body)
    assert status == 200, answer
    text: str = answer["choices"][0]["message"]["content"]
    return text == oracle_text(seed, TOKENS)


def replace_second(rig: Rig, fault: dict[str, str]) -> None:
    rig.kill_worker(1)
    until(lambda: rig.ready_replicas() == 1, "the killed worker to be gone")
    rig.restart_worker(1, fault)
    rig.wait_ready()


def test_a_worker_that_begins_to_lie_is_left_out_within_two_intervals_and_nobody_hears_a_lie_after_that(
    rig: Rig,
) -> None:
    replace_second(rig, {"CORDEE_ORACLE_WRONG_FROM": "6"})
    for seed in seeds(200, of=31):
        if not is_right(rig, seed):
            break
    else:
        raise AssertionError("no answer was a lie: the worker was never asked")
    began = time.monotonic()
    until(lambda: rig.ready_replicas() == 1, "the lying worker to be left out")
    assert time.monotonic() - began <= 2 * INTERVAL_S
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda seed: is_right(rig, seed), seeds(60, of=32)))
    assert rig.metric("cordee_canary_failures_total") >= 2
    assert "worker-2 is not used: its canary is wrong" in rig.log("gateway-1")


def test_a_worker_that_joins_lying_is_never_used(rig: Rig) -> None:
    rig.kill_worker(1)
    until(lambda: rig.ready_replicas() == 1, "the killed worker to be gone")
    rig.restart_worker(1, {"CORDEE_ORACLE_WRONG_FROM": "0"})
    until(lambda: rig.metric("cordee_canary_failures_total") >= 2, "the lying worker to be asked")
    assert rig.ready_replicas() == 1
    assert all(is_right(rig, seed) for seed in seeds(10, of=33))


def test_a_worker_whose_engine_stops_is_out_in_time_and_what_it_was_answering_is_answered_elsewhere(rig: Rig) -> None:
    replace_second(rig, {"CORDEE_ORACLE_STUCK_FROM": "4"})
    with ThreadPoolExecutor(16) as pool:
        began = time.monotonic()
        answers = [pool.submit(is_right, rig, seed) for seed in seeds(16, of=34)]
        until(lambda: rig.ready_replicas() == 1, "the stuck worker to be left out")
        assert time.monotonic() - began <= TIMEOUT_S + LATE_S
        assert all(answer.result(timeout=30) for answer in answers)
    assert rig.workers[1].poll() is None
