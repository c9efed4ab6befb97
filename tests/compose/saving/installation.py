"""An installation with something of everything, and what it holds."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import Column, MetaData, Table, insert, select

from cordee.cli import main
from cordee.compose.service_apps import Kept, kept
from cordee.config.load import load
from cordee.config.tree import Config
from cordee.domain.passages import Service
from cordee.services.accounts.store import changes
from cordee.services.base.database import connect
from cordee.services.base.migrate import migrate

FILES = {
    "admin.key": b"ck-secret\n",
    "services/internal.secret": bytes(range(32)),
    "services/files/ab/blob_1ab": bytes(1000) + b"content" * 100_000,
}
TIME = 1_795_000_000.125


async def fill(one: Kept, data: Path) -> None:
    """The newest schema, and rows of every kind of column: text of all alphabets, bytes, JSON, numbers, nulls."""
    database = connect(one.database, one.service.value, data)
    metadata = one.metadata()
    try:
        await migrate(database, one.history, metadata, 10.0)
        async with database.writing() as on:
            for number in range(3):
                await on.execute(
                    insert(metadata.tables["outbox"]).values(
                        id=f"event_{number}", source="s", type="t", subject="ä\t\\N\n", tenant="🧗", time=TIME + number,
                        data={"a": [1, None, "\\x00"]}, sent_at=None if number else TIME,
                    )
                )  # fmt: skip
            if one.service.value == "accounts":
                row = {"kid": "k", "signs_from": TIME, "sealed": bytes(range(256)), "public": {"kty": "OKP"}}
                await on.execute(insert(metadata.tables["signing_keys"]).values(row))
    finally:
        await database.close()


async def rows(one: Kept, data: Path) -> dict[str, list[Any]]:
    """Every row of every table, but for the name of the database's life, which a restore changes."""
    database = connect(one.database, one.service.value, data)
    try:
        async with database.reading() as on:
            there = MetaData()
            await on.run_sync(there.reflect)
            return {
                table.name: sorted(map(repr, (await on.execute(select(*_lasting(table)))).all()))
                for table in there.sorted_tables
            }
    finally:
        await database.close()


def _lasting(table: Table) -> list[Column[Any]]:
    return [column for column in table.columns if (table.name, column.name) != ("feed_clock", "epoch")]


async def epoch(one: Kept, data: Path) -> str:
    """The name of the life of the accounts database."""
    database = connect(one.database, one.service.value, data)
    try:
        async with database.reading() as on:
            return (await changes.clock(on)).epoch
    finally:
        await database.close()


def epoch_of(config: Config, data: Path) -> str:
    (accounts,) = (one for one in kept(config.services) if one.service is Service.ACCOUNTS)
    return asyncio.run(epoch(accounts, data))


def everything(config: Config, data: Path) -> dict[str, Any]:
    databases = {one.service.value: asyncio.run(rows(one, data)) for one in kept(config.services)}
    return {**databases, "files": {name: (data / name).read_bytes() for name in FILES}}


def made(data: Path, config: str = "") -> Config:
    for name, content in FILES.items():
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        (data / name).write_bytes(content)
    (data / "cordee.toml").write_text(config)
    (data / "log").mkdir()
    (data / "log" / "web-1.log").write_text("not worth keeping")
    loaded = load(None, data, environ={})
    for one in kept(loaded.services):
        asyncio.run(fill(one, data))
    return loaded


def words(*of: str | Path) -> int:
    return main([str(word) for word in of])


def databases_of(server: str, services: tuple[str, ...] = ("accounts", "chats", "webhooks")) -> str:
    """A configuration with a new database for some services; the others stay with SQLite."""

    async def create(name: str) -> None:
        connection = await asyncpg.connect(f"{server}/postgres")
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    lines = []
    for service in services:
        name = f"{service}_{secrets.token_hex(4)}"
        asyncio.run(create(name))
        lines.append(f'[services.{service}.database]\nurl = "{server}/{name}"\n')
    return "".join(lines)
