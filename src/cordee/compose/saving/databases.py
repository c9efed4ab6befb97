"""One service's database out of a running installation, and into an empty one.

SQLite is copied by its own online backup, which disturbs no writer. PostgreSQL is read by COPY inside one repeatable-read transaction:
all tables as of one moment. Going back, the schema is brought to the revision of that moment by the service's own history and then
filled in one transaction; the next start brings it on to the newest.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Literal

import asyncpg
import msgspec
from alembic.config import Config as AlembicConfig
from alembic.script import ScriptDirectory
from msgspec.structs import replace
from sqlalchemy import MetaData

from cordee.compose.migrating import STATEMENT_S
from cordee.compose.saving.archive import Writer
from cordee.compose.saving.problem import SavingError
from cordee.compose.service_apps import Kept
from cordee.config.sections.services import DatabaseSettings
from cordee.domain.record import record
from cordee.services.base.database import AwayError, DatabaseError, connect
from cordee.services.base.migrate import NOTHING, migrate

FOLDER = "databases/"
ABOUT = ".json"
SQLITE = ".db"
COPY = ".copy"
_REVISIONS = "alembic_version"
_COLUMNS = """
    SELECT t.table_name AS name, array_agg(c.column_name::text ORDER BY c.ordinal_position)
           FILTER (WHERE c.is_generated = 'NEVER') AS columns
    FROM information_schema.tables t JOIN information_schema.columns c USING (table_schema, table_name)
    WHERE t.table_schema = current_schema() AND t.table_type = 'BASE TABLE' AND t.table_name <> $1
    GROUP BY t.table_name ORDER BY t.table_name"""


_SIZES = "SELECT pg_table_size(c.oid) AS bytes FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace"


class About(msgspec.Struct, frozen=True):
    """What is said of a database before its contents: the `columns` of each table in the order in which they were copied."""

    kind: Literal["sqlite", "postgresql"]
    revision: str | None
    columns: dict[str, list[str]] = {}


async def save(one: Kept, data: Path, to: Writer, scratch: Path) -> bool:
    """Add the database of `one`; returns False where there is none yet. `scratch`: a directory for what has no size before it is
    written. Raises SavingError."""
    try:
        if one.database.url:
            await _save_postgres(one, to, scratch)
            return True
        path = data / "services" / f"{one.service.value}.db"
        if not path.exists():
            return False
        _save_sqlite(one, path, to, scratch)
        return True
    except (sqlite3.Error, asyncpg.PostgresError, OSError, TimeoutError) as error:
        raise SavingError(f"the database of {one.service.value} cannot be saved: {error}; try again") from error


@record
class Size:
    """About how many bytes a database comes to in a backup, and how many of them are copied at once before they are written."""

    whole: int
    copied: int


async def size(one: Kept, data: Path) -> Size:
    """Of the database of `one`, without reading it. Raises SavingError."""
    try:
        if one.database.url:
            async with _connected(one.database) as connection:
                sizes = [row["bytes"] for row in await connection.fetch(_SIZES)]
            return Size(sum(sizes), max(sizes, default=0))
        path = data / "services" / f"{one.service.value}.db"
        # What is not in the file itself yet is beside it, and comes to as much at most.
        held = sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
        return Size(held, held)
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        raise SavingError(f"the database of {one.service.value} does not answer: {error}; try again") from error


def _save_sqlite(one: Kept, path: Path, to: Writer, scratch: Path) -> None:
    copy = scratch / path.name
    with (
        contextlib.closing(sqlite3.connect(path, timeout=one.database.wait_s)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)  # in one step: it reads as of one moment, and in WAL mode nobody waits for it
        target.execute("PRAGMA journal_mode=DELETE")  # all of it in this one file
        has = target.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_REVISIONS,)).fetchone()
        row = target.execute(f"SELECT version_num FROM {_REVISIONS}").fetchone() if has else None
    _tell(one, About("sqlite", row[0] if row else None), to)
    with copy.open("rb") as file:
        to.add(f"{FOLDER}{one.service.value}{SQLITE}", copy.stat().st_size, file)
    copy.unlink()


async def _save_postgres(one: Kept, to: Writer, scratch: Path) -> None:
    name = one.service.value
    async with (
        _connected(one.database) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        has = await connection.fetchval("SELECT to_regclass($1)", _REVISIONS)
        revision = await connection.fetchval(f"SELECT version_num FROM {_REVISIONS}") if has else None
        tables = {row["name"]: list(row["columns"]) for row in await connection.fetch(_COLUMNS, _REVISIONS)}
        _tell(one, About("postgresql", revision, tables), to)
        for table, columns in tables.items():
            with tempfile.TemporaryFile(dir=scratch) as file:
                await connection.copy_from_table(table, columns=columns, output=file)
                size = file.tell()
                file.seek(0)
                to.add(f"{FOLDER}{name}/{table}{COPY}", size, file)


def _tell(one: Kept, about: About, to: Writer) -> None:
    to.put(f"{FOLDER}{one.service.value}{ABOUT}", msgspec.json.encode(about))


def check(one: Kept, about: About) -> None:
    """Whether this program could take it. Raises SavingError."""
    name = one.service.value
    kind = "postgresql" if one.database.url else "sqlite"
    if about.kind != kind:
        raise SavingError(
            f"the backup holds {name} as {about.kind}, and services.{name}.database.url says {kind}: restore to the same kind"
        )
    config = AlembicConfig()
    config.set_main_option("script_location", str(one.history).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if about.revision is not None and about.revision not in known:
        raise SavingError(
            f"the backup holds {name} at revision {about.revision}, which this program does not know: a newer version made it; "
            "restore with that version"
        )


async def is_empty(one: Kept) -> bool:
    """Whether a PostgreSQL has no row of ours. Raises SavingError."""
    try:
        async with _connected(one.database) as connection:
            tables = [row["name"] for row in await connection.fetch(_COLUMNS, _REVISIONS)]
            rows = [await connection.fetchval(f"SELECT 1 FROM {_quoted(table)} LIMIT 1") for table in tables]
            return not any(rows)
    except (asyncpg.PostgresError, OSError, TimeoutError) as error:
        raise SavingError(f"the database of {one.service.value} does not answer: {error}") from error


async def fill(one: Kept, about: About, files: Sequence[Path]) -> None:
    """Empty a PostgreSQL and fill it with `files`, one for each table. Raises SavingError."""
    name = one.service.value
    database = connect(replace(one.database, statement_s=STATEMENT_S), name, Path())
    try:
        metadata = one.metadata()
        await migrate(database, one.history, metadata, one.database.migrate_wait_s, NOTHING)
        if about.revision is None:
            return
        await migrate(database, one.history, metadata, one.database.migrate_wait_s, about.revision)
        there = MetaData()
        async with database.reading() as connection:
            await connection.run_sync(lambda sync: there.reflect(sync))
        order = [table.name for table in there.sorted_tables]  # whoever is referred to first
        async with _connected(one.database) as raw, raw.transaction():
            for file in sorted(files, key=lambda file: order.index(file.stem)):
                await _fill(raw, file, about.columns[file.stem])
    except (DatabaseError, AwayError, asyncpg.PostgresError, OSError, TimeoutError, ValueError, KeyError) as error:
        raise SavingError(f"the database of {name} cannot be filled: {error}; mend it and restore again") from error
    finally:
        await database.close()


async def _fill(raw: Any, file: Path, columns: list[str]) -> None:
    table = _quoted(file.stem)
    # What triggers once wrote is in the copy already.
    await raw.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    await raw.execute(f"DELETE FROM {table}")
    with file.open("rb") as content:
        await raw.copy_to_table(file.stem, columns=columns, source=content)
    await raw.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    for column in columns:
        sequence = await raw.fetchval("SELECT pg_get_serial_sequence($1, $2)", table, column)
        if sequence is not None:
            newest = f"(SELECT max({_quoted(column)}) FROM {table})"
            await raw.execute(f"SELECT setval($1, coalesce({newest}, 1), {newest} IS NOT NULL)", sequence)


def about_of(content: bytes, name: str) -> About:
    """Raises SavingError."""
    try:
        return msgspec.json.decode(content, type=About)
    except msgspec.DecodeError as error:
        raise SavingError(f"the backup says nothing understandable of {name}: {error}") from error


@contextlib.asynccontextmanager
async def _connected(settings: DatabaseSettings) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(
        settings.url,
        timeout=settings.wait_s,
        command_timeout=STATEMENT_S,
        server_settings={"application_name": "cordee"},
    )
    try:
        yield connection
    finally:
        await connection.close(timeout=settings.wait_s)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
