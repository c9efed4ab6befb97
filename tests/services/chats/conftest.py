"""A chats service in this process: callers are vouched for as gateways do it, and nobody answers at the door unless a test says so."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest

from cordee.config.sections.services import Chats, DatabaseSettings
from cordee.services.base.database import connect
from cordee.services.base.door import Asked, DoorError, Whole
from cordee.services.base.ground import Ground
from cordee.services.base.migrate import migrate
from cordee.services.base.outbox import Event, MemoryPublisher
from cordee.services.chats.app import HISTORY, NAME, create
from cordee.services.chats.service import Service
from cordee.services.chats.tables import metadata
from cordee.wire.vouch import HEADER, TO_SERVICES, Vouched, vouch

SECRET = b"s" * 32
MIGRATE_S = 30.0
SCOPES = frozenset({"chats.read", "chats.write", "inference"})
ADA = Vouched("tn_one", "key_ada", "us_ada", SCOPES)
BOB = Vouched("tn_one", "key_bob", "us_bob", SCOPES)
BARE = Vouched("tn_one", "key_bare", "", SCOPES)
EVE = Vouched("tn_two", "key_eve", "us_ada", SCOPES)
SYSTEM = Vouched("tn_one", "system", "", frozenset({"system"}))


class Door:
    """Gateways that answer what the test put there."""

    def __init__(self) -> None:
        self.answers: list[Whole] = []
        self.asked: list[tuple[Vouched, Asked]] = []

    async def ask(self, caller: Vouched, asked: Asked) -> Whole:
        self.asked.append((caller, asked))
        if not self.answers:
            raise DoorError("nobody is there")
        return self.answers.pop(0)

    def stream(self, caller: Vouched, asked: Asked) -> Any:
        raise AssertionError("nothing here streams")

    fetch = stream


class House:
    """The service as its clients see it."""

    def __init__(self, settings: Chats, data: Path) -> None:
        self.clock = 1_800_000_000.0
        self.events: list[Event] = []
        self.door = Door()
        self.data = data
        self.database = connect(settings.database, NAME, data)
        ground = Ground(data, SECRET, self.door, MemoryPublisher([self.events.append]), lambda: self.clock)
        self.app = create(settings, self.database, ground)
        self.service: Service = self.app.state.service
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://chats")

    def headers(self, caller: Vouched) -> dict[str, str]:
        return {HEADER: vouch(caller, TO_SERVICES, SECRET, self.clock)}

    def openai(self, caller: Vouched = ADA) -> openai.AsyncOpenAI:
        """The official client, with a gateway's word for the caller in place of a key."""
        return openai.AsyncOpenAI(
            api_key="-", base_url="http://chats/v1", default_headers=self.headers(caller), max_retries=0,
            http_client=httpx2.AsyncClient(transport=httpx2.ASGITransport(self.app)),
        )  # fmt: skip

    async def ask(self, method: str, path: str, caller: Vouched | None = ADA, body: Any = None) -> httpx.Response:
        headers = {} if caller is None else self.headers(caller)
        content = body if isinstance(body, bytes | None) else json.dumps(body)
        if content is not None:
            headers["content-type"] = "application/json"
        return await self.client.request(method, path, headers=headers, content=content)

    async def ok(self, method: str, path: str, caller: Vouched = ADA, body: Any = None) -> Any:
        answer = await self.ask(method, path, caller, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def conversation(self, *said: str, caller: Vouched = ADA) -> str:
        """The id of a new one, in which its user said these things."""
        items = [{"role": "user", "content": one} for one in said]
        return str((await self.ok("POST", "/v1/conversations", caller, {"items": items}))["id"])

    async def told(self) -> list[str]:
        """The kinds of what was told so far. The service's own relay may hand on the same at this moment: then its id is the same."""
        publisher = MemoryPublisher([self.events.append])
        while await self.service.outbox.relay(self.database, publisher, lambda: self.clock + 1e6):
            pass
        return list({event.id: event.type.removeprefix("cordee.chats.") for event in self.events}.values())


@pytest.fixture(scope="session")
def migrated_chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
def settings(database_settings: DatabaseSettings) -> Chats:
    return Chats(database=database_settings)


@pytest.fixture
async def house(settings: Chats, tmp_path: Path, migrated_chats: Path) -> AsyncIterator[House]:
    if not settings.database.url:
        (tmp_path / "services").mkdir()
        shutil.copy(migrated_chats, tmp_path / "services")
    made = House(settings, tmp_path)
    async with made.app.router.lifespan_context(made.app), made.client:
        yield made
