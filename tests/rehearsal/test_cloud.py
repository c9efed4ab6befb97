"""Rows 49 to 51: what leaves for a provider outside, what it may cost, and what becomes of calls when nobody answers there either."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.machine import percentile
from tests.e2e.test_overflow import (
    FULL,
    LONG,
    NEVER,
    SLOTS,
    TOKENS,
    asked,
    body,
    configuration,
    house,
    is_outside,
    many,
    text_of,
)
from tests.rehearsal.provider import KEY, WORDS, Provider, words
from tests.rehearsal.record import in_ms, record
from tests.rig import HEADERS, PATIENCE_S, Rig, until

pytestmark = pytest.mark.rehearsal
ONE = (10 * 1000 + WORDS * 2000) / 1_000_000  # what an answer of the provider costs
MODES = ("busy", "error", "html", "garbage", "refuse")
ROUNDS = 3
UNAVAILABLE = 503


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def full(provider: Provider, tmp_path: Path) -> Iterator[Rig]:
    """A house in overflow."""
    with house(tmp_path, configuration(provider.url, FULL)) as rig:
        until(lambda: rig.metric("cordee_overflow_active") == 1, "the house is full")
        yield rig
        until(lambda: rig.metric("cordee_cloud_sequences") == 0, "no seat outside is left")
        until(lambda: rig.metric("cordee_calls_open") == 0, "no call is left")


def test_what_leaves_is_decided_at_once(full: Rig, provider: Provider) -> None:
    decided, stayed = [], 0
    for _ in range(ROUNDS):
        for status, headers, _ in many(full, [body(seed) for seed in LONG]):
            assert status == 200
            if is_outside(headers):
                decided.append(_receipt(full, headers["x-request-id"])["timings"]["queue_s"])
            else:
                stayed += 1
    record(
        49, "the house is full: what has no seat leaves", "decision ≤ 5 ms",
        {"left": len(decided), "stayed": stayed, "from_arrival_to_decision_ms": in_ms(decided)},
    )  # fmt: skip
    assert len(decided) == len(provider.seen()) >= ROUNDS * (len(LONG) - SLOTS - 2)
    assert percentile(decided, 0.5) < 0.05


def test_a_provider_out_of_order_costs_no_answer(full: Rig, provider: Provider) -> None:
    measured: dict[str, int] = {}
    for mode in MODES:
        time.sleep(0.6)  # its breaker lets a call through again
        provider.forget()
        provider.be(mode=mode, retry_after_s=0.2)
        answers = many(full, [body(seed, stream=mode == "garbage") for seed in LONG])
        assert [status for status, _, _ in answers] == [200] * len(LONG), mode
        assert not any(is_outside(headers) for _, headers, _ in answers)
        measured[mode] = len(provider.seen())
    provider.kill()
    answers = many(full, [body(seed) for seed in LONG])
    assert [status for status, _, _ in answers] == [200] * len(LONG)
    record(
        49, "the provider is busy, broken, talks garbage, refuses, is down", "no answer lost",
        {"calls": len(LONG) * (len(MODES) + 1), "lost": 0, "asked_of_it_in_vain": measured},
    )  # fmt: skip


def test_no_more_is_spent_than_was_said(provider: Provider, tmp_path: Path) -> None:
    most = ((len(json.dumps(body(100))) + 64) * 1000 + TOKENS * 2000) / 1_000_000
    cap = most + 4.5 * ONE
    with house(tmp_path, configuration(provider.url, FULL, spend=cap)) as rig:
        until(lambda: rig.metric("cordee_overflow_active") == 1, "the house is full")
        for _ in range(ROUNDS):
            answers = many(rig, [body(seed) for seed in LONG])
            assert [status for status, _, _ in answers] == [200] * len(LONG)
        spent = rig.metric("cordee_cloud_spend_total")
    record(
        49, "three times as many calls as there is money for", "spend ≤ cap + 1 request",
        {"cap": round(cap, 4), "spent": round(spent, 4), "over_the_cap": max(0.0, round(spent - cap, 4)), "left": len(provider.seen())},
    )  # fmt: skip
    assert 0 < spent <= cap
    assert len(provider.seen()) == round(spent / ONE)


def test_a_stream_that_breaks_outside_goes_on_there_and_says_so(provider: Provider, tmp_path: Path) -> None:
    with house(tmp_path, configuration(provider.url, NEVER)) as rig:
        rig.kill_worker(0)
        until(lambda: rig.ready_replicas() == 0, "the worker is missed")
        provider.be(mode="break", after=5, once=True)
        status, headers, events = asked(rig, body(stream=True))
        receipt = _receipt(rig, headers["x-request-id"])
    record(
        49, "a stream breaks in the middle, outside", "goes on from its text, marked, not called exact",
        {name: receipt[name] for name in ("cloud", "attempts", "continuation", "identical")},
    )  # fmt: skip
    assert (status, text_of(events), events[-1]) == (200, "".join(words()), b"[DONE]")
    assert (receipt["cloud"], receipt["continuation"], receipt["identical"]) == (True, "text", False)


@pytest.mark.parametrize("fault", ["it is down", "its key is revoked"])
def test_with_nobody_inside_or_outside_the_answer_is_an_honest_no(
    provider: Provider, tmp_path: Path, fault: str
) -> None:
    key = "sk-revoked" if fault == "its key is revoked" else KEY
    with house(tmp_path, configuration(provider.url, NEVER), key) as rig:
        rig.kill_worker(0)
        until(lambda: rig.ready_replicas() == 0, "the worker is missed")
        if fault == "it is down":
            provider.kill()
        took, statuses, hints = [], [], []
        for seed in range(8):
            began = time.monotonic()
            status, headers, answer = asked(rig, body(seed), {"X-Request-Timeout": "2"})
            took.append(time.monotonic() - began)
            statuses.append(status)
            hints.append(headers.get("retry-after", ""))
            assert "sk-" not in json.dumps(answer)
        opened = provider.open_most() if fault != "it is down" else 0
    record(
        50, f"no worker, and the provider: {fault}", "503 with Retry-After, at once; no loop",
        {"answers": sorted(set(statuses)), "with_retry_after": sum(map(bool, hints)), "in_ms": in_ms(took), "at_once_outside": opened},
    )  # fmt: skip
    assert set(statuses) <= {UNAVAILABLE, 504}
    assert max(took) < 4.0


def test_what_must_stay_stays_while_the_house_is_full(full: Rig, provider: Provider) -> None:
    cli, data = [sys.executable, "-m", "cordee.cli"], ["--data", str(full.directory)]
    command = [*cli, "keys", "create", "inside", "--local-only", *data]
    key = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout.strip()
    mine = {"Authorization": f"Bearer {key}"}
    until(lambda: asked(full, body(1), mine)[0] == 200, "the key is known")
    provider.forget()
    answers = [
        answer
        for headers in (mine, {**HEADERS, "X-Cordee-Local-Only": "1"})
        for answer in many(full, [body(seed) for seed in LONG * 3], headers)
    ]
    left = len(provider.seen())
    record(
        51, "the house is full, and the tenant is marked local-only, or the call is", "requests that leave = 0",
        {"calls": len(answers), "served": sum(status == 200 for status, _, _ in answers), "left": left},
    )  # fmt: skip
    assert left == 0
    assert {status for status, _, _ in answers} == {200}


def _receipt(rig: Rig, call: str) -> dict[str, Any]:
    until(lambda: '"running"' not in (rig.get(f"/v1/calls/{call}") or '"running"'), "the receipt")
    found: dict[str, Any] = json.loads(rig.get(f"/v1/calls/{call}"))
    return found
