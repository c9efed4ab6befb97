"""Databases for the tests of services: what touches the store runs on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from cordee.config.sections.services import DatabaseSettings
from cordee.services.base.database import Database, connect
from tests.postgres import NoPostgresError, postgres


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    try:
        with postgres() as url:
            yield url
    except NoPostgresError as error:
        pytest.skip(str(error))


async def _new_database(server: str) -> str:
    name = f"test_{secrets.token_hex(6)}"
    connection = await asyncpg.connect(f"{server}/postgres")
    try:
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    return f"{server}/{name}"


@pytest.fixture
def database_settings(request: pytest.FixtureRequest) -> DatabaseSettings:
    """An empty database of its own for each test: SQLite, unless the test is marked with `on_both`."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return DatabaseSettings()
    return DatabaseSettings(url=asyncio.run(_new_database(request.getfixturevalue("postgres_server"))))


@pytest.fixture
async def database(database_settings: DatabaseSettings, tmp_path: Path) -> AsyncIterator[Database]:
    connected = connect(database_settings, "test", tmp_path)
    yield connected
    await connected.close()
