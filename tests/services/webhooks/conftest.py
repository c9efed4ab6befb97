"""A webhooks service in this process, servers that it sends to, and a clock that tests turn."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import openai
import pytest

from cordee.config.sections.services import DatabaseSettings, Webhooks
from cordee.domain.record import record
from cordee.services.base.broker import MemoryBroker
from cordee.services.base.database import connect
from cordee.services.base.ground import Ground
from cordee.services.base.migrate import migrate
from cordee.services.base.nobody import Nobody
from cordee.services.base.outbox import Event, MemoryPublisher
from cordee.services.webhooks.app import HISTORY, NAME, create
from cordee.services.webhooks.delivering import Deliverer
from cordee.services.webhooks.tables import metadata
from cordee.wire.vouch import HEADER, TO_SERVICES, Vouched, vouch

SECRET = b"i" * 32
SCOPES = frozenset({"webhooks.read", "webhooks.write"})
ADA = Vouched("tenant_1", "key_1", "user_1", SCOPES)
SETTINGS = Webhooks(
    allow_private=("127.0.0.1",), retry_s=(10.0, 100.0), retry_jitter=0.0, poll_s=60.0, disable_s=1000.0, connect_s=20.0,
    answer_s=25.0, lease_s=60.0, kept_s=500.0,
)  # fmt: skip


@record
class Received:
    """One request to a server."""

    line: str
    headers: dict[str, str]
    body: str


class Receiver:
    """A server of a user: answers with `statuses`, the last one for ever."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.received: list[Received] = []
        self.statuses = ["204 No Content"]
        self.fields = ""
        self.delay_s = 0.0
        self._context = context

    async def __aenter__(self) -> Receiver:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=self._context)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}/hook?a=1"

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = (await reader.readexactly(int(headers["content-length"]))).decode()
            self.received.append(Received(head[0], headers, body))
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            writer.write(f"HTTP/1.1 {status}\r\n{self.fields}content-length: 0\r\n\r\n".encode())
            await writer.drain()
        writer.close()


class House:
    """The service as its clients, and other services, see it."""

    def __init__(self, settings: Webhooks, data: Path, context: ssl.SSLContext | None) -> None:
        self.clock = 1_800_000_000.0
        self.events: list[Event] = []
        self.settings = settings
        self.database = connect(settings.database, NAME, data)
        self.broker = MemoryBroker([NAME])
        publisher = MemoryPublisher([self.events.append])
        ground = Ground(data, SECRET, Nobody(), publisher, lambda: self.clock, self.broker)
        self.app = create(settings, self.database, ground, context)
        self.service = self.app.state.service
        self.deliverer = Deliverer(self.service)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url="http://webhooks")

    async def ask(self, method: str, path: str, body: Any = None, caller: Vouched | None = ADA) -> httpx.Response:
        headers = {} if caller is None else {HEADER: vouch(caller, TO_SERVICES, SECRET, self.clock)}
        content = None if body is None else json.dumps(body)
        return await self.client.request(
            method, path, headers={**headers, "content-type": "application/json"}, content=content
        )

    async def ok(self, method: str, path: str, body: Any = None, caller: Vouched = ADA) -> Any:
        answer = await self.ask(method, path, body, caller)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def endpoint(self, url: str, *types: str, caller: Vouched = ADA) -> dict[str, Any]:
        body = {"name": "mine", "url": url, "event_types": list(types) or ["batch.completed"]}
        made: dict[str, Any] = await self.ok("POST", "/v1/webhook_endpoints", body, caller)
        return made

    async def happens(self, number: int = 1, what: str = "batches.batch.completed", **data: Any) -> None:
        """A service tells of it."""
        service = what.partition(".")[0]
        await self.broker.publish(
            Event(
                f"event_{number:032x}", f"cordee/{service}", f"cordee.{what}", f"batch_{number:032x}", "tenant_1", self.clock,
                json.dumps(data),
            )
        )  # fmt: skip

    async def deliveries(self, endpoint: str) -> list[dict[str, Any]]:
        found = await self.ok("GET", f"/v1/webhook_endpoints/{endpoint}/deliveries?order=asc")
        return list(found["data"])

    async def told(self) -> list[str]:
        """The kinds of what was told so far. The service's own relay may hand on the same at this moment: then its id is the same."""
        while await self.service.outbox.relay(
            self.database, MemoryPublisher([self.events.append]), lambda: self.clock + 1e6
        ):
            pass
        return list({event.id: event.type for event in self.events}.values())

    def official(self, caller: Vouched = ADA) -> openai.AsyncOpenAI:
        headers = {HEADER: vouch(caller, TO_SERVICES, SECRET, self.clock)}
        return openai.AsyncOpenAI(
            api_key="none", base_url="http://webhooks/v1", default_headers=headers, max_retries=0, http_client=self.client  # type: ignore[arg-type]  # as its documentation has it
        )  # fmt: skip


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite database that is where the code is, to be copied: migrating each test's own would take most of its time."""
    data = tmp_path_factory.mktemp("migrated")

    async def make() -> Path:
        database = connect(DatabaseSettings(), NAME, data)
        await migrate(database, HISTORY, metadata, 30.0)
        await database.close()
        assert database.path is not None
        return database.path

    return asyncio.run(make())


@pytest.fixture
def context() -> ssl.SSLContext | None:
    """Whom deliveries trust."""
    return None


async def _nothing(_self: Deliverer) -> None:
    pass


@pytest.fixture
async def house(
    database_settings: DatabaseSettings,
    tmp_path: Path,
    migrated: Path,
    context: ssl.SSLContext | None,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[House]:
    monkeypatch.setattr(Deliverer, "run", _nothing)  # tests say when something is sent
    if not database_settings.url:
        (tmp_path / "services").mkdir()
        shutil.copy(migrated, tmp_path / "services")
    made = House(msgspec.structs.replace(SETTINGS, database=database_settings), tmp_path, context)
    async with made.app.router.lifespan_context(made.app), made.client:
        while NAME not in made.broker._takes:
            await asyncio.sleep(0)
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as server:
        yield server
