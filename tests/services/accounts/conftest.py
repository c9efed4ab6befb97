"""An accounts service in this process, with cheap passwords, two tenants, and a clock that tests turn."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from cordee.config.sections.services import Accounts, DatabaseSettings, Passwords
from cordee.services.accounts.app import HISTORY, NAME, create
from cordee.services.accounts.membership import Person, found
from cordee.services.accounts.rules.rights import Role
from cordee.services.accounts.tables import metadata
from cordee.services.base.database import connect
from cordee.services.base.ground import Ground
from cordee.services.base.migrate import migrate
from cordee.services.base.outbox import Event, MemoryPublisher
from tests.services.accounts.serving import NoDoor

PASSWORD = "correct horse"
MIGRATE_S = 30.0
SECRET = b"i" * 32  # the installation's
OWNER, STRANGER = "ada@example.com", "eve@elsewhere.example"


class House:
    """The service as its clients see it."""

    def __init__(self, settings: Accounts, data: Path, outside: httpx.AsyncBaseTransport | None = None) -> None:
        self.clock = 1_800_000_000.0
        self.events: list[Event] = []
        self.settings = settings
        self.database = connect(settings.database, "accounts", data)
        ground = Ground(data, SECRET, NoDoor(), MemoryPublisher([self.events.append]), lambda: self.clock)
        self.app = create(settings, self.database, ground, b"s" * 32, outside)
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=settings.issuer)

    async def ask(
        self, method: str, path: str, token: str | None = None, body: Any = None, **more: Any
    ) -> httpx.Response:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        if body is not None:
            headers["content-type"] = "application/json"
            more["content"] = body if isinstance(body, bytes) else json.dumps(body)
        return await self.client.request(method, path, headers=headers, **more)

    async def ok(self, method: str, path: str, token: str | None = None, body: Any = None, **more: Any) -> Any:
        answer = await self.ask(method, path, token, body, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def form(self, path: str, **fields: str) -> httpx.Response:
        return await self.client.post(path, data=fields)

    async def tokens(self, email: str = OWNER, password: str = PASSWORD) -> dict[str, Any]:
        found: dict[str, Any] = await self.ok("POST", "/v1/auth/login", body={"email": email, "password": password})
        return found

    async def token(self, email: str = OWNER) -> str:
        return str((await self.tokens(email))["access_token"])

    async def add(self, owner: str, email: str, role: str = "user") -> dict[str, Any]:
        body = {"email": email, "name": email, "password": PASSWORD, "role": role}
        made: dict[str, Any] = await self.ok("POST", "/v1/users", owner, body)
        return made

    async def told(self) -> list[str]:
        """The kinds of what was told so far. The service's own relay may hand on the same at this moment: then its id is the same."""
        service = self.app.state.service
        publisher = MemoryPublisher([self.events.append])
        while await service.outbox.relay(self.database, publisher, lambda: self.clock + 1e6):
            pass
        return list({event.id: event.type.removeprefix("cordee.accounts.") for event in self.events}.values())


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
async def house(database_settings: DatabaseSettings, tmp_path: Path, migrated: Path) -> AsyncIterator[House]:
    if not database_settings.url:
        (tmp_path / "services").mkdir()
        shutil.copy(migrated, tmp_path / "services")
    settings = Accounts(passwords=Passwords(memory_kib=8, passes=1, lanes=1), database=database_settings)
    made = House(msgspec.structs.replace(settings, keys_per_owner_max=5), tmp_path)
    async with made.app.router.lifespan_context(made.app), made.client:
        owner = Person(OWNER, "Ada", Role.OWNER, PASSWORD)
        await found(made.app.state.service, "Operators", owner)
        stranger = {"email": STRANGER, "name": "Eve", "password": PASSWORD}
        await made.ok("POST", "/v1/tenants", await made.token(), {"name": "Elsewhere", "owner": stranger})
        yield made
