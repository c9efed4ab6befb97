from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from cordee.services.base.principal import SYSTEM
from cordee.wire.vouch import HEADER, TO_SERVICES, vouch
from tests.ports import free_port
from tests.rig import until
from tests.services.batches.conftest import OPERATOR, SECRET
from tests.services.batches.serving import DATA

pytestmark = pytest.mark.e2e
PATIENCE_S = 30.0
# What every answer must be, whatever is asked: no 5xx, nothing that the description does not name.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


def test_a_fuzzer_that_reads_the_description_finds_nothing_undescribed(tmp_path: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}/v1/batches/openapi.json"
    with subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--factory", "tests.services.batches.serving:make", "--port", str(port),
         "--no-access-log", "--log-level", "warning"],
        env=os.environ | {DATA: str(tmp_path)},
    ) as process:  # fmt: skip
        try:
            until(lambda: _is_there(address), "the service", PATIENCE_S)
            who = replace(OPERATOR, scopes=OPERATOR.scopes | {SYSTEM})
            done = subprocess.run(
                [Path(sys.executable).with_name("schemathesis"), "run", address, "--checks", CHECKS, "--max-examples", "4",
                 "--phases", "fuzzing", "--seed", "1", "--header", f"{HEADER}: {vouch(who, TO_SERVICES, SECRET, time.time())}",
                 "--request-timeout", "10", "--suppress-health-check", "all", "--no-color", "--generation-database", "none"],
                cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False,
            )  # fmt: skip
        finally:
            process.terminate()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def _is_there(address: str) -> bool:
    try:
        return httpx.get(address).status_code == 200
    except httpx.HTTPError:
        return False
