"""A prompt that kills every worker it is given to, among others that do not: real processes, real deaths."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from tests.rig import Rig, oracle_text, seeds, until

pytestmark = pytest.mark.e2e
POISON = "xyzzy"
INNOCENTS, TOKENS = 50, 150


def ask(rig: Rig, prompt: str, seed: int, answers: dict[int, str]) -> None:
    body = {"model": "oracle", "prompt": prompt, "max_tokens": TOKENS, "seed": seed, "ignore_eos": True}
    answers[seed] = "".join(
        event["choices"][0]["text"] for event in rig.stream("/v1/completions", body) if event["choices"]
    )


def revive(rig: Rig, deaths: list[int], over: threading.Event) -> None:
    """What a supervisor does."""
    while not over.wait(0.05):
        for number, process in enumerate(rig.workers):
            if process.poll() is not None:
                deaths.append(number)
                rig.restart_worker(number)


def test_a_poisonous_prompt_kills_two_workers_at_most_and_no_answer_beside_it(tmp_path: Path) -> None:
    with Rig(tmp_path, environment={"CORDEE_ORACLE_POISON": POISON}) as rig:
        deaths: list[int] = []
        over = threading.Event()
        nurse = threading.Thread(target=revive, args=(rig, deaths, over))
        nurse.start()
        try:
            answers: dict[int, str] = {}
            numbers = seeds(INNOCENTS)
            clients = [
                threading.Thread(target=ask, args=(rig, f"innocent {at}", seed, answers))
                for at, seed in enumerate(numbers)
            ]
            for client in clients:
                client.start()
            until(lambda: rig.metric("cordee_calls_open") >= INNOCENTS / 2 or len(answers) > 0, "the calls run")
            body = {"model": "oracle", "prompt": f"say {POISON}", "max_tokens": 20, "seed": 7}
            status, answer = rig.post("/v1/completions", body)
            assert status == 422, answer
            assert answer["error"]["code"] == "request_quarantined"
            status, _ = rig.post("/v1/completions", {**body, "seed": 8})
            assert status == 422
            for client in clients:
                client.join()
        finally:
            over.set()
            nurse.join()
        deaths += [number for number, process in enumerate(rig.workers) if process.poll() is not None]
        # A proven request is refused without being tried: it would kill a third one.
        assert len(deaths) <= 2, json.dumps(deaths)
        assert {seed: answers.get(seed) for seed in numbers} == {seed: oracle_text(seed, TOKENS) for seed in numbers}
