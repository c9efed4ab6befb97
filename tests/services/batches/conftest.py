"""A batches service in this process, over doubles of the gateways, that runs its work as fast as it can."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import msgspec
import openai
import pytest

from cordee.config.sections.services import Batches, DatabaseSettings, Jobs, OutboxSettings
from cordee.domain.caller import EVERY_SCOPE, USER_SCOPES
from cordee.services.base.database import connect
from cordee.services.base.ground import Ground
from cordee.services.base.migrate import migrate
from cordee.services.base.outbox import Event, MemoryPublisher
from cordee.services.base.principal import SYSTEM
from cordee.services.batches.app import HISTORY, NAME, create
from cordee.services.batches.tables import metadata
from cordee.wire.vouch import HEADER, TO_SERVICES, Vouched, vouch
from tests.services.batches.doubles import Gateways

SECRET = b"s" * 32
PATIENCE_S = 30.0
ADA = Vouched("tenant_1", "key_1", "user_1", USER_SCOPES)
EVE = Vouched("tenant_2", "key_2", "user_2", USER_SCOPES)
OPERATOR = Vouched("operators", "admin", "", EVERY_SCOPE)
INSTALLATION = Vouched("tenant_1", "job_1", "", frozenset({SYSTEM}))
QUICK = Batches(
    results_wait_s=0.02, pause_s=0.02, lines_at_once=4, piece_lines=7, errors_max=10,
    jobs=Jobs(poll_s=0.02, backoff_s=0.02, backoff_s_max=0.05, settle_s=0.02, lease_s=5.0, tries_max=1000),
    outbox=OutboxSettings(poll_s=0.02),
)  # fmt: skip


class House:
    """The service as its clients see it."""

    def __init__(self, settings: Batches, data: Path, door: Gateways) -> None:
        self.door = door
        self.events: list[Event] = []
        self.shift_s = 0.0
        self.settings = settings
        self.database = connect(settings.database, NAME, data)
        ground = Ground(data, SECRET, door, MemoryPublisher([self.events.append]), self.now)
        self.app = create(settings, self.database, ground)
        transport = httpx.ASGITransport(self.app)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://batches")

    def now(self) -> float:
        return time.time() + self.shift_s

    def headers(self, who: Vouched) -> dict[str, str]:
        return {HEADER: vouch(who, TO_SERVICES, SECRET, self.now())}

    async def ask(self, method: str, path: str, who: Vouched = ADA, body: Any = None) -> httpx.Response:
        return await self.client.request(method, path, headers=self.headers(who), json=body)

    async def ok(self, method: str, path: str, who: Vouched = ADA, body: Any = None) -> Any:
        answer = await self.ask(method, path, who, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def begin(self, *lines: Any, name: str = "file-in", **more: Any) -> dict[str, Any]:
        body = {"input_file_id": self.door.upload(name, *lines), "endpoint": "/v1/chat/completions"}
        made: dict[str, Any] = await self.ok("POST", "/v1/batches", body=body | {"completion_window": "24h"} | more)
        return made

    async def until(self, path: str, name: str, *wanted: str, who: Vouched = ADA) -> dict[str, Any]:
        """The object at a path, as soon as its field `name` is one of those wanted."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found: dict[str, Any] = await self.ok("GET", path, who)
                if found[name] in wanted:
                    return found
                await asyncio.sleep(0.01)

    async def batch(self, batch_id: str, *wanted: str) -> dict[str, Any]:
        return await self.until(f"/v1/batches/{batch_id}", "status", *wanted)

    async def job(self, job_id: str, *wanted: str, who: Vouched = OPERATOR) -> dict[str, Any]:
        return await self.until(f"/v1/jobs/{job_id}", "state", *wanted, who=who)

    def outcomes(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """The custom ids in the file of outputs and in that of errors, in their order."""
        return {
            name: [line["custom_id"] for line in self.door.lines(batch[name])] if batch[name] else []
            for name in ("output_file_id", "error_file_id")
        }

    @asynccontextmanager
    async def living(self) -> AsyncIterator[House]:
        async with self.app.router.lifespan_context(self.app), self.client:
            yield self


def official(house: House, who: Vouched = ADA) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(
        api_key="k", base_url="http://batches/v1", default_headers=house.headers(who), max_retries=0,
        http_client=httpx2.AsyncClient(transport=httpx2.ASGITransport(house.app)),
    )  # fmt: skip


@pytest.fixture(scope="session")
def migrated_batches(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database that is where the code is, to be copied: migrating each test's own would take most of its time."""
    data = tmp_path_factory.mktemp("migrated")

    async def make() -> Path:
        database = connect(DatabaseSettings(), NAME, data)
        await migrate(database, HISTORY, metadata, PATIENCE_S)
        await database.close()
        assert database.path is not None
        return database.path

    return asyncio.run(make())


@pytest.fixture
def batch_data(database_settings: DatabaseSettings, tmp_path: Path, migrated_batches: Path) -> Path:
    if not database_settings.url:
        (tmp_path / "services").mkdir()
        shutil.copy(migrated_batches, tmp_path / "services")
    return tmp_path


@pytest.fixture
def settings(database_settings: DatabaseSettings) -> Batches:
    return msgspec.structs.replace(QUICK, database=database_settings)


@pytest.fixture
async def house(settings: Batches, batch_data: Path) -> AsyncIterator[House]:
    async with House(settings, batch_data, Gateways()).living() as made:
        yield made
