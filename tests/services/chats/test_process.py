"""Chats in a process of their own, asked by a fuzzer that knows only their description."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cordee.wire.vouch import HEADER, LIFE_S, TO_SERVICES, vouch
from tests.ports import free_port
from tests.services.chats.conftest import ADA, SECRET
from tests.services.chats.serving import DATA

pytestmark = pytest.mark.e2e
START_S = 30.0
# What every answer must be, whatever is asked: no 5xx, nothing that the description does not name.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--factory", "tests.services.chats.serving:make", "--port", str(port),
         "--no-access-log", "--log-level", "warning"],
        env=os.environ | {DATA: str(tmp_path)},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + START_S
    try:
        while True:
            try:
                httpx.get(f"{url}/v1/chats/openapi.json").raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, "the service ended while it started"
                assert time.monotonic() < until, "the service did not start in time"
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(START_S)


def test_a_fuzzer_that_reads_the_description_finds_nothing_undescribed(address: str, tmp_path: Path):
    word = vouch(ADA, TO_SERVICES, SECRET, time.time() + LIFE_S - 5)  # so that it holds as long as the fuzzer may take
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "run", f"{address}/v1/chats/openapi.json", "--checks", CHECKS,
         "--max-examples", "6", "--phases", "fuzzing", "--seed", "1", "--header", f"{HEADER}: {word}",
         "--include-path-regex", "^/v1/(chats|conversations)", "--request-timeout", "10", "--suppress-health-check", "all",
         "--no-color", "--generation-database", "none"],
        cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
