"""Routing with real processes: strategies from the configuration, and a worker that is slower than the other."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.rig import HEADERS, PATIENCE_S, Rig

pytestmark = pytest.mark.e2e
BODY = {"model": "oracle", "max_tokens": 4, "seed": 1, "ignore_eos": True}


def ask(rig: Rig, text: str, gateway: int = 0, region: str = "") -> tuple[int, str]:
    """The status, and the replica that answered or the parameter that is wrong."""
    connection = HTTPConnection("127.0.0.1", rig.ports[gateway], timeout=PATIENCE_S)
    body = json.dumps({**BODY, "messages": [{"role": "user", "content": text}]})
    connection.request(
        "POST", "/v1/chat/completions", body, {**HEADERS, **({"X-Cordee-Region": region} if region else {})}
    )
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status != 200:
        return response.status, str(answer["error"]["param"])
    return 200, str(json.loads(rig.get(f"/v1/calls/{response.headers['x-request-id']}", gateway))["replicas"][-1])


def weight_of(rig: Rig, worker: str) -> float:
    lines = rig.get("/metrics").splitlines()
    found = [line for line in lines if line.startswith("cordee_replica_weight{") and f'"{worker}"' in line]
    return float(found[0].rsplit(" ", 1)[1]) if found else 1.0


def test_weights_of_the_configuration_divide_the_calls(tmp_path: Path) -> None:
    replicas = json.dumps({"worker-1": {"weight": 9.0}, "worker-2": {"weight": 1.0}})
    environment = {"CORDEE_ROUTING_STRATEGY": "weighted", "CORDEE_REPLICAS": replicas}
    with Rig(tmp_path, environment=environment) as rig:
        # They are drawn at random: of 100, one run in 500 would have 20 of the second.
        got = Counter(ask(rig, "hello") for _ in range(200))
        assert got[200, "worker-1"] > 4 * got[200, "worker-2"]
        assert sum(got.values()) == got[200, "worker-1"] + got[200, "worker-2"]


def test_calls_that_begin_alike_go_together_in_both_gateways(tmp_path: Path) -> None:
    with Rig(tmp_path, environment={"CORDEE_ROUTING_STRATEGY": "prefix_affinity"}, gateways=2) as rig:
        homes = {}
        for topic in range(8):
            text = f"This is conversation number {topic} about something. " * 8
            seen = {ask(rig, text + str(turn), gateway=turn % 2) for turn in range(4)}
            assert len(seen) == 1, "every turn in the same place, whichever gateway is asked"
            homes[topic] = seen.pop()[1]
        assert set(homes.values()) == {"worker-1", "worker-2"}


def test_callers_are_answered_in_their_region(tmp_path: Path) -> None:
    replicas = json.dumps({"worker-1": {"region": "eu"}, "worker-2": {"region": "us"}})
    environment = {"CORDEE_WEB_STRATEGY": "geo", "CORDEE_REPLICAS": replicas}
    with Rig(tmp_path, environment=environment) as rig:
        assert {ask(rig, "hi", region="us") for _ in range(6)} == {(200, "worker-2")}
        assert {ask(rig, "hi", region="EU") for _ in range(6)} == {(200, "worker-1")}
        assert ask(rig, "hi", region="not a name!") == (400, "X-Cordee-Region")


def test_a_worker_that_is_ten_times_slower_loses_weight(tmp_path: Path) -> None:
    with Rig(tmp_path, environment={"CORDEE_ROUTING_SLOW_START_S": "0"}) as rig:
        rig.kill_worker(1)
        rig.restart_worker(1, {"CORDEE_ORACLE_TOKEN_S": "0.1", "CORDEE_ORACLE_FIRST_TOKEN_S": "0.1"})
        rig.wait_ready()
        stop = threading.Event()

        def keep_asking() -> None:
            while not stop.is_set():
                rig.post("/v1/completions", {**BODY, "prompt": "x", "max_tokens": 30})

        askers = [threading.Thread(target=keep_asking) for _ in range(8)]
        for asker in askers:
            asker.start()
        deadline, lowest = time.monotonic() + PATIENCE_S, 1.0
        while time.monotonic() < deadline and lowest > 0.2:
            time.sleep(0.1)
            lowest = min(lowest, weight_of(rig, "worker-2"))
        stop.set()
        for asker in askers:
            asker.join()
        assert lowest <= 0.2
        assert weight_of(rig, "worker-1") == 1.0
