"""A gateway that freezes and never comes back, on a whole platform: its clients go elsewhere, and it is started again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.test_platform import PATIENCE_S, Running
from tests.rig import until

pytestmark = pytest.mark.e2e

SILENT_S = 4.0


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Running]:
    data = tmp_path / "data"
    data.mkdir()
    (data / "cordee.toml").write_text(f"[supervisor]\nsilent_s = {SILENT_S}\n")
    with Running(data) as running:
        yield running


def test_a_gateway_and_a_worker_that_stay_frozen_are_ended_and_started_again(platform: Running) -> None:
    before = platform.pids()
    for name in ("web-1", "worker-1"):
        os.kill(before[name], signal.SIGSTOP)

    def is_whole() -> bool:
        assert platform.ask(platform.web) == 200
        status = platform.status()
        pids = {one["name"]: one["pid"] for one in status["processes"]}
        return status["state"] == "ready" and not {before["web-1"], before["worker-1"]} & set(pids.values())

    until(is_whole, "everything is whole again", PATIENCE_S)
    said = platform.output.read_text().splitlines()
    for name in ("web-1", "worker-1"):
        told = [line for line in said if f"name={name} " in line]
        assert any("event=lost" in line and "silent_s=" in line for line in told)
        assert any("event=died" in line and "SIGKILL" in line for line in told)


def test_a_supervisor_that_slept_ends_nobody_when_it_wakes(platform: Running) -> None:
    before = platform.pids()
    for _ in range(2):
        os.kill(platform.up.pid, signal.SIGSTOP)
        try:
            until(lambda: platform.ask(platform.web) == 200, "gateways serve without it")
            time.sleep(SILENT_S + 1)
        finally:
            os.kill(platform.up.pid, signal.SIGCONT)
        until(lambda: platform.status()["state"] == "ready", "it has heard from everybody")
    assert platform.pids() == before
    assert "event=lost" not in platform.output.read_text()
