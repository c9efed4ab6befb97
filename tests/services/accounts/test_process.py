"""Accounts in a process of their own, asked by clients that know only their address."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cordee.config.sections.services import Accounts, Passwords
from cordee.services.accounts.app import HISTORY, NAME, create
from cordee.services.accounts.membership import Person, found
from cordee.services.accounts.rules.rights import Role
from cordee.services.accounts.tables import metadata
from cordee.services.base.database import connect
from cordee.services.base.migrate import migrate
from tests.ports import free_port
from tests.services.accounts.conftest import OWNER, PASSWORD
from tests.services.accounts.serving import DATA, ground

pytestmark = pytest.mark.e2e
START_S = 30.0
# What every answer must be, whatever is asked: no 5xx, nothing that the description does not name.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


async def _found(data: Path) -> None:
    settings = Accounts(passwords=Passwords(memory_kib=8, passes=1, lanes=1))
    database = connect(settings.database, NAME, data)
    await migrate(database, HISTORY, metadata, START_S)
    service = create(settings, database, ground(data)).state.service
    await found(service, "Operators", Person(OWNER, "Ada", Role.OWNER, PASSWORD))
    service.hasher.close()
    await database.close()


def _start(data: Path, port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--factory", "tests.services.accounts.serving:make", "--port", str(port),
         "--no-access-log", "--log-level", "warning"],
        env=os.environ | {DATA: str(data)},
    )  # fmt: skip
    until = time.monotonic() + START_S
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/.well-known/jwks.json").raise_for_status()
        except httpx.HTTPError:
            assert process.poll() is None, "the service ended while it started"
            assert time.monotonic() < until, "the service did not start in time"
            time.sleep(0.1)
        else:
            return process


@pytest.fixture
def data(tmp_path: Path) -> Path:
    asyncio.run(_found(tmp_path))
    return tmp_path


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def address(data: Path, port: int) -> Iterator[str]:
    process = _start(data, port)
    yield f"http://127.0.0.1:{port}"
    process.send_signal(signal.SIGTERM)
    process.wait(START_S)


def _login(address: str) -> str:
    answer = httpx.post(f"{address}/v1/auth/login", json={"email": OWNER, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def test_tokens_are_believed_after_the_process_was_killed_and_started_again(data: Path, port: int):
    address = f"http://127.0.0.1:{port}"
    process = _start(data, port)
    try:
        token = _login(address)
    finally:
        process.kill()
        process.wait(START_S)
    process = _start(data, port)
    try:
        answer = httpx.get(f"{address}/v1/auth/me", headers={"authorization": f"Bearer {token}"})
        assert answer.json()["role"] == "owner"
    finally:
        process.terminate()
        assert process.wait(START_S) in (0, -signal.SIGTERM)


def test_a_fuzzer_that_reads_the_description_finds_nothing_undescribed(address: str, tmp_path: Path):
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "run", f"{address}/v1/accounts/openapi.json", "--checks", CHECKS,
         "--max-examples", "6", "--phases", "fuzzing", "--seed", "1", "--header", f"Authorization: Bearer {_login(address)}",
         "--request-timeout", "10", "--suppress-health-check", "all", "--no-color", "--exclude-path", "/v1/auth/logout",
         "--exclude-method", "DELETE", "--generation-database", "none"],
        cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
