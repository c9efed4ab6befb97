"""A files service in this process, a clock that tests turn, and callers of two tenants."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import msgspec
import openai
import pytest

from cordee.config.sections.services import DatabaseSettings, Files
from cordee.services.base.database import connect
from cordee.services.base.ground import Ground
from cordee.services.base.migrate import migrate
from cordee.services.base.nobody import Nobody
from cordee.services.base.outbox import Event, MemoryPublisher
from cordee.services.files.app import HISTORY, NAME, create
from cordee.services.files.service import Service
from cordee.services.files.sweep import sweep
from cordee.services.files.tables import metadata
from cordee.wire.vouch import HEADER, TO_SERVICES, Vouched, vouch

MIGRATE_S = 30.0
SECRET = b"s" * 32
BOTH = frozenset({"files.read", "files.write"})
ADA = Vouched("tenant_a", "key_ada", "user_ada", BOTH)
BOB = Vouched("tenant_a", "key_bob", "user_bob", BOTH)
EVE = Vouched("tenant_e", "key_eve", "user_ada", BOTH)  # the same subject's name in another tenant
SYSTEM = Vouched("tenant_a", "batches", "", frozenset({"system"}))
MIB = 1 << 20
SMALL = Files(
    file_bytes_max=4 * MIB,
    part_bytes_max=2 * MIB,
    tenant_bytes_max=6 * MIB,
    tenant_files_max=5,
    free_bytes_min=0,
    parts_max=4,
)


class House:
    """The service as its clients see it."""

    def __init__(self, settings: Files, data: Path) -> None:
        self.clock = 1_800_000_000.0
        self.data = data
        self.events: list[Event] = []
        self.settings = settings
        self.database = connect(settings.database, NAME, data)
        ground = Ground(data, SECRET, Nobody(), MemoryPublisher([self.events.append]), lambda: self.clock)
        self.app = create(settings, self.database, ground)
        self.service: Service = self.app.state.service
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, raise_app_exceptions=False), base_url="http://files"
        )

    def headers(self, who: Vouched) -> dict[str, str]:
        return {HEADER: vouch(who, TO_SERVICES, SECRET, self.clock)}

    def openai(self, who: Vouched) -> openai.AsyncOpenAI:
        """The official client, as somebody for whom the gateway has vouched."""
        http = httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app))
        return openai.AsyncOpenAI(
            api_key="unused",
            base_url="http://files/v1",
            http_client=http,
            default_headers=self.headers(who),
            max_retries=0,
        )

    async def ask(self, method: str, path: str, who: Vouched = ADA, **more: Any) -> httpx.Response:
        headers = {**self.headers(who), **more.pop("headers", {})}
        return await self.client.request(method, path, headers=headers, **more)

    async def ok(self, method: str, path: str, who: Vouched = ADA, **more: Any) -> Any:
        answer = await self.ask(method, path, who, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def put(
        self, content: bytes, who: Vouched = ADA, name: str = "a.txt", kind: str = "text/plain", **fields: str
    ) -> httpx.Response:
        data = {"purpose": "user_data", **fields}
        return await self.ask("POST", "/v1/files", who, data=data, files={"file": (name, content, kind)})

    async def made(self, content: bytes, who: Vouched = ADA, **more: str) -> dict[str, Any]:
        answer = await self.put(content, who, **more)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def begun(self, size: int, who: Vouched = ADA, **more: Any) -> str:
        given = {
            "bytes": size,
            "filename": "a.bin",
            "mime_type": "application/octet-stream",
            "purpose": "user_data",
            **more,
        }
        return str((await self.ok("POST", "/v1/uploads", who, json=given))["id"])

    async def part(self, upload: str, data: bytes, who: Vouched = ADA) -> httpx.Response:
        return await self.ask("POST", f"/v1/uploads/{upload}/parts", who, files={"data": ("part", data)})

    async def sweep(self) -> None:
        await sweep(self.service)

    def stored(self) -> list[Path]:
        """Everything that lies in storage."""
        return [path for path in (self.data / "services" / "files").rglob("*") if path.is_file()]

    async def told(self) -> list[str]:
        """The kinds of what was told so far. The service's own relay may hand on the same at this moment: then its id is the same."""
        publisher = MemoryPublisher([self.events.append])
        while await self.service.outbox.relay(self.database, publisher, lambda: self.clock + 1e6):
            pass
        return list({event.id: event.type.removeprefix("cordee.files.") for event in self.events}.values())


@pytest.fixture(scope="session")
def migrated_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database that is where the code is, to be copied: migrating each test's own would take most of its time."""
    data = tmp_path_factory.mktemp("migrated")

    async def make() -> Path:
        database = connect(DatabaseSettings(), NAME, data)
        await migrate(database, HISTORY, metadata, MIGRATE_S)
        await database.close()
        assert database.path is not None
        return database.path

    return asyncio.run(make())


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> Files:
    """Small limits; a test may give others by parametrising this."""
    return getattr(request, "param", SMALL)


@pytest.fixture
def data(tmp_path: Path, migrated_files: Path) -> Path:
    """A data directory whose database is where the code is, for tests that make their own `House`."""
    (tmp_path / "services").mkdir()
    shutil.copy(migrated_files, tmp_path / "services")
    return tmp_path


@pytest.fixture
async def house(
    database_settings: DatabaseSettings, settings: Files, tmp_path: Path, migrated_files: Path
) -> AsyncIterator[House]:
    if not database_settings.url:
        (tmp_path / "services").mkdir()
        shutil.copy(migrated_files, tmp_path / "services")
    made = House(msgspec.structs.replace(settings, database=database_settings), tmp_path)
    async with made.app.router.lifespan_context(made.app), made.client:
        yield made
