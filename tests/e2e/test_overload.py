"""Limits over several gateways, priorities and queues, with real processes."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.rig import PATIENCE_S, Rig, until
from tests.valkey import Valkey

pytestmark = pytest.mark.e2e
BODY: dict[str, Any] = {"model": "oracle", "prompt": "x", "max_tokens": 9, "seed": 1, "ignore_eos": True}
SLOW = {"CORDEE_ORACLE_SLOTS": "1", "CORDEE_ORACLE_TOKEN_S": "0.02"}


def keys(directory: Path, *argv: str) -> str:
    command = [sys.executable, "-m", "cordee.cli", "keys", *argv, "--data", str(directory)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout.strip()


def post(
    rig: Rig, key: str, gateway: int = 0, headers: dict[str, str] | None = None, **changes: Any
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", rig.ports[gateway], timeout=PATIENCE_S)
    sent = {"Authorization": f"Bearer {key}", "Content-Type": "application/json", **(headers or {})}
    connection.request("POST", "/v1/completions", json.dumps({**BODY, **changes}), sent)
    response = connection.getresponse()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()


def served(rig: Rig, key: str, asks: int) -> int:
    """Of so many asked at the gateways in turn."""
    return sum(post(rig, key, turn % len(rig.ports))[0] == 200 for turn in range(asks))


def test_a_budget_is_one_for_all_gateways_while_the_store_lives_and_bounded_when_it_does_not(tmp_path: Path) -> None:
    with Valkey(tmp_path) as store:  # noqa: SIM117  # the second needs the first
        with Rig(tmp_path, workers=1, gateways=2, environment={"CORDEE_STORE_URL": store.url}) as rig:
            key = keys(tmp_path, "create", "a", "--tokens-per-day", "200")  # a call is ten tokens
            spare = keys(tmp_path, "create", "b", "--tokens-per-day", "200")
            until(lambda: post(rig, key, 1)[0] == 200, "the key is known")
            until(lambda: post(rig, spare)[0] == 200, "the other one is known")
            passed = 1
            for turn in range(60):
                status, headers, _ = post(rig, key, turn % 2)
                passed += status == 200
                time.sleep(0.02)  # as a client would; rounds with the store pass
            assert 18 <= passed <= 20 + 2, "two slices of five percent are one call each at most"
            assert status == 429
            assert headers["x-ratelimit-remaining-tokens"] == "0"
            assert headers["x-should-retry"] == "false"
            assert int(headers["retry-after"]) >= 1

            store.kill()
            until(lambda: post(rig, spare)[0] == 200 and rig.metric("cordee_limits_local") == 1, "the store is away")
            rest = served(rig, spare, 60)
            assert rest <= 20, "each gateway keeps to half of it"


def test_a_gateway_that_is_restarted_does_not_renew_a_budget(tmp_path: Path) -> None:
    with Valkey(tmp_path) as store:  # noqa: SIM117  # the second needs the first
        with Rig(tmp_path, workers=1, environment={"CORDEE_STORE_URL": store.url}) as rig:
            key = keys(tmp_path, "create", "a", "--tokens-per-month", "100")
            until(lambda: post(rig, key)[0] == 200, "the key is known")
            served(rig, key, 4)
            rig.gateways[0].terminate()
            rig.gateways[0].wait(PATIENCE_S)
            rig.gateways[0] = rig._start_gateway(0)
            rig.wait_ready()
            until(lambda: post(rig, key)[0] == 200, "the gateway is back")
            time.sleep(0.5)  # rounds with the store
            assert served(rig, key, 20) <= 5


def test_what_is_said_about_limits_and_what_limits_do(tmp_path: Path) -> None:
    with Rig(tmp_path, workers=1) as rig:
        key = keys(tmp_path, "create", "a", "--requests-per-minute", "20", "--tokens-per-minute", "1000")
        since: list[float] = []

        def is_known() -> bool:
            since[:] = [time.monotonic()]
            return post(rig, key)[0] == 200

        until(is_known, "the key is known")
        status, headers, _ = post(rig, key)
        assert status == 200
        assert headers["x-ratelimit-limit-requests"] == "20"
        assert headers["x-ratelimit-limit-tokens"] == "1000"
        assert int(headers["x-ratelimit-remaining-tokens"]) >= 970
        got = served(rig, key, 10)
        refilled = (time.monotonic() - since[0]) / 3  # one more every three seconds, which pass on busy cores
        assert 3 <= got <= 3 + refilled, "five at once, and two are gone"
        lifted = next(line.split()[0] for line in keys(tmp_path, "list").splitlines() if line.startswith("key-"))
        assert lifted
        for _ in range(10):  # as many as there may be room for again
            status, headers, body = post(rig, key)
            if status != 200:
                break
        assert status == 429
        assert json.loads(body)["error"]["code"] == "rate_limit_exceeded"


def test_interactive_calls_pass_batch_calls_and_hear_of_the_queue(tmp_path: Path) -> None:
    with Rig(tmp_path, workers=1, environment=SLOW) as rig:
        key = keys(tmp_path, "create", "a")
        until(lambda: post(rig, key)[0] == 200, "the key is known")
        ends: dict[str, float] = {}

        def ask(name: str, priority: str, tokens: int = 20) -> dict[str, str]:
            status, headers, _ = post(rig, key, headers={"X-Cordee-Priority": priority}, max_tokens=tokens)
            assert status == 200
            ends[name] = time.monotonic()
            return headers

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            until(lambda: rig.metric("cordee_calls_open") == 0, "nobody has the seat")
            batch = [pool.submit(ask, "batch 0", "batch", 200)]  # four seconds, in which the others come
            until(lambda: rig.metric("cordee_calls_open") == 1, "it runs")
            batch += [pool.submit(ask, f"batch {n}", "batch") for n in range(1, 5)]
            until(lambda: rig.metric("cordee_queue_length") == 4, "four wait")
            urgent = pool.submit(ask, "urgent", "interactive")
            headers = urgent.result(PATIENCE_S)
            for one in batch:
                one.result(PATIENCE_S)
        assert sorted(ends, key=ends.__getitem__).index("urgent") <= 2
        assert headers["x-cordee-queue-position"] == "0"
        assert 0 < float(headers["x-cordee-queue-wait"]) < PATIENCE_S

        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            until(lambda: rig.metric("cordee_calls_open") == 0, "nobody has the seat")
            long = pool.submit(post, rig, key, 0, None, max_tokens=200)
            until(lambda: rig.metric("cordee_calls_open") == 1, "it runs")
            status, _, body = post(rig, key, headers={"X-Cordee-Queue-Events": "1"}, stream=True)
            assert status == 200
            assert body.startswith(b": queue position=0 wait=")
            assert body.count(b": queue ") >= 2, "the long one takes four seconds"
            assert body.endswith(b"data: [DONE]\n\n")
            assert long.result(PATIENCE_S)[0] == 200
