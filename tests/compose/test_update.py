"""An update under way, with real processes: the schema is moved on under a server of before, which goes on answering; one of before that
starts then offers everything but what that schema is of."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from cordee.cli import main
from cordee.compose.service_apps import Kept, kept
from cordee.config.load import load
from cordee.domain.passages import Service
from cordee.services.base.database import connect
from cordee.services.base.migrate import migrate
from tests.compose.test_services import Running, Unix
from tests.postgres import NoPostgresError, postgres
from tests.rig import until

pytestmark = pytest.mark.e2e
OWNER, PASSWORD = "ada@example.com", "correct horse"
START_S = 60.0
NEWER = "9999"
# What another version adds: to a table that is written all the time, one column of either kind that needs no value.
STEP = """
import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "{newer}", "{head}", None, None


def upgrade():
    op.add_column("api_keys", sa.Column("color", sa.Text(), nullable=True))
    op.add_column("api_keys", sa.Column("weight", sa.Integer(), nullable=False, server_default="0"))
    op.create_table("colors", sa.Column("name", sa.Text(), primary_key=True))


def downgrade():
    raise NotImplementedError
"""


class Server(Running):
    """A services process, and a client of its accounts."""

    owner = ""  # whose token is shown

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any, str | None]:
        headers = {"Content-Type": "application/json"}
        if self.owner:
            headers["Authorization"] = f"Bearer {self.owner}"
        with closing(Unix(self.socket)) as connection:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.headers["Retry-After"]

    def works(self) -> list[int]:
        """A key is made, seen and taken away: how that went."""
        status, key, _ = self.ask("POST", "/v1/api_keys", {"name": "k"})
        path = f"/v1/api_keys/{key.get('id')}"
        return [status, self.ask("GET", path)[0], self.ask("POST", path, {"name": "l"})[0], self.ask("DELETE", path)[0]]


class Client(threading.Thread):
    """Somebody who works at a server all the time, until `stop`."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.seen: list[list[int]] = []
        self._server = server
        self._ending = threading.Event()

    def run(self) -> None:
        while not self._ending.is_set():
            self.seen.append(self._server.works())

    def more(self) -> None:
        """Wait for some more of it."""
        enough = len(self.seen) + 3
        until(lambda: len(self.seen) >= enough or not self.is_alive(), "the server goes on answering")

    def stop(self) -> None:
        self._ending.set()
        self.join(START_S)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.rehearsal)])
def configuration(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    try:
        with postgres() as url:
            name = f"accounts_{secrets.token_hex(4)}"

            async def create() -> None:
                connection = await asyncpg.connect(f"{url}/postgres")
                await connection.execute(f"CREATE DATABASE {name}")
                await connection.close()

            asyncio.run(create())
            yield f'[services.accounts.database]\nurl = "{url}/{name}"\n'
    except NoPostgresError as error:
        pytest.skip(str(error))


def update(one: Kept, data: Path, scratch: Path) -> None:
    """What a newer version does when it starts: the same history with one more step."""
    history = scratch / one.service.value / "migrations"  # the lock is named after where it lies
    shutil.copytree(one.history, history, ignore=shutil.ignore_patterns("__pycache__"))
    head = max(path.stem for path in (history / "versions").glob("r*.py"))[1:5]
    (history / "versions" / f"r{NEWER}_newer.py").write_text(STEP.format(newer=NEWER, head=head))

    async def run() -> None:
        database = connect(one.database, one.service.value, data)
        try:
            assert await migrate(database, history, one.metadata(), START_S) == NEWER
        finally:
            await database.close()

    asyncio.run(run())


def test_a_server_of_before_goes_on_under_a_newer_schema_and_does_not_start_on_it(
    configuration: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "cordee.toml").write_text(configuration)
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD + "\n"))
    assert main(["accounts", "create-owner", OWNER, "--data", str(data)]) == 0
    servers = [Server(tmp_path, "before")]
    try:
        before = servers[0]
        until(before.is_ready, "every service", START_S)
        status, tokens, _ = before.ask("POST", "/v1/auth/login", {"email": OWNER, "password": PASSWORD})
        assert status == 200, tokens
        before.owner = tokens["access_token"]
        client = Client(before)
        client.start()
        client.more()
        (accounts,) = (one for one in kept(load(None, data, environ={}).services) if one.service is Service.ACCOUNTS)
        update(accounts, data, tmp_path / "newer")
        client.more()
        assert client.is_alive()

        servers.append(Server(tmp_path, "again"))
        again = servers[1]
        until(lambda: _is_settled(again), "every service but one", START_S)
        services = again.get("/healthz")[1]["services"]
        assert f"revision {NEWER}, which this program does not know" in services.pop("accounts")["why"]
        assert {one["state"] for one in services.values()} == {"ready"}
        status, said, retry_after = again.ask("POST", "/v1/auth/login", {"email": OWNER, "password": PASSWORD})
        assert (status, said["error"]["code"]) == (503, "service_away")
        assert retry_after is not None
        assert again.ask("GET", "/v1/files")[0] == 401  # it is there, and nobody has vouched

        client.more()
        client.stop()
        assert client.seen == [[200] * 4] * len(client.seen)
    finally:
        for server in servers:
            server.process.kill()
            server.process.wait()


def _is_settled(server: Server) -> bool:
    try:
        services = server.get("/healthz")[1]["services"]
        states = [one["state"] for name, one in services.items() if name != "accounts"]
        return bool(services["accounts"]["state"] == "missing" and set(states) == {"ready"})
    except OSError:
        return False
