"""Webhooks in processes of their own, which are killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from cordee.services.base.database import Database
from cordee.services.base.migrate import NOTHING, migrate
from cordee.services.webhooks.app import HISTORY
from cordee.services.webhooks.tables import metadata
from cordee.wire.vouch import HEADER, TO_SERVICES, vouch
from tests.ports import free_port
from tests.services import on_both
from tests.services.webhooks.conftest import ADA, SECRET, House, Receiver
from tests.services.webhooks.serving import DATA

pytestmark = pytest.mark.anyio
START_S = 30.0
MANY = 60
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@contextlib.contextmanager
def process(data: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    running = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--factory", "tests.services.webhooks.serving:make", "--port", str(port),
         "--no-access-log", "--log-level", "warning"],
        env=os.environ | {DATA: str(data)},
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + START_S
        while True:
            try:
                httpx.get(f"{address}/v1/webhooks/openapi.json").raise_for_status()
                break
            except httpx.HTTPError:
                assert running.poll() is None, "the service ended while it started"
                assert time.monotonic() < until, "the service did not start in time"
                time.sleep(0.1)
        yield running, address
    finally:
        running.kill()
        running.wait()


@on_both
async def test_the_history_leads_to_the_tables_and_back(database: Database):
    await migrate(database, HISTORY, metadata, START_S)
    async with database.reading() as on:
        assert await on.run_sync(lambda c: compare_metadata(MigrationContext.configure(c), metadata)) == []
    await migrate(database, HISTORY, metadata, START_S, NOTHING)


@pytest.mark.e2e
async def test_every_delivery_arrives_although_the_processes_that_send_are_killed(house: House, tmp_path: Path):
    async with Receiver() as receiver:
        receiver.delay_s, house.clock = 0.02, time.time()
        await house.endpoint(receiver.url)
        for number in range(1, MANY + 1):
            await house.happens(number)
        seen: set[str] = set()

        async def arrived(count: int) -> None:
            end = time.monotonic() + START_S
            while len(seen) < count:
                assert time.monotonic() < end, f"{len(seen)} of {count} arrived"
                await asyncio.sleep(0.02)
                seen.update(one.headers["webhook-id"] for one in receiver.received)

        for killed_at in (15, MANY):
            # In a thread: this loop has the receiver, and transactions of the house.
            with contextlib.ExitStack() as running:
                await asyncio.to_thread(running.enter_context, process(tmp_path))
                await arrived(killed_at)
        assert seen == {f"evt_{number:032x}" for number in range(1, MANY + 1)}
        assert len(receiver.received) < 2 * MANY


@pytest.mark.e2e
def test_whatever_is_asked_the_answer_is_one_that_the_description_names(tmp_path: Path):
    with process(tmp_path) as (_, address):
        header = vouch(ADA, TO_SERVICES, SECRET, time.time())
        done = subprocess.run(
            [Path(sys.executable).with_name("schemathesis"), "run", f"{address}/v1/webhooks/openapi.json", "--checks", CHECKS,
             "--header", f"{HEADER}: {header}", "--max-examples", "4", "--phases", "fuzzing", "--seed", "1",
             "--request-timeout", "10", "--suppress-health-check", "all", "--no-color", "--generation-database", "none"],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
