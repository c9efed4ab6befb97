"""A service's database: SQLite in the data directory, or a PostgreSQL, behind the same few calls.

Decides how a connection is set up and when a transaction takes its lock; knows no table. On SQLite a writing transaction takes
the lock when it begins (BEGIN IMMEDIATE): one that read first and then wanted to write could only be refused (SQLITE_BUSY without
waiting), because what it had read may be old. Readers never wait for a writer (WAL).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy import Connection, String, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from cordee.config.sections.services import DatabaseSettings

ID_CHARACTERS = 64
# Identifiers sort by their bytes everywhere, so that a page ends at the same entry whatever the locale of the server.
IDENTIFIER = String(ID_CHARACTERS).with_variant(String(ID_CHARACTERS, collation="C"), "postgresql")

# Connection, rolled back for the sake of others (a deadlock), resources, shutting down.
_AWAY_CLASSES = frozenset({"08", "40", "53", "57"})
# A server that only reads (a standby that is being promoted), a transaction that was idle for too long, a lock that was not to be had.
_AWAY_STATES = frozenset({"25006", "25P03", "55P03"})
_WRITES = "cordee_writes"
_FILE_MODE = 0o600


class DatabaseError(Exception):
    """The database is not what it should be. The message says what to do."""


class AwayError(Exception):
    """The database does not answer now, or not in time; the same request may succeed later."""


class Database:
    """An engine and its two kinds of transactions. One event loop; `close` at the end."""

    def __init__(self, engine: AsyncEngine, path: Path | None) -> None:
        self.engine = engine
        self.path = path  # of the SQLite file; None on PostgreSQL

    @property
    def is_postgres(self) -> bool:
        return self.path is None

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that changes nothing. Raises AwayError."""
        async with self._begun(self.engine) as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction that is committed at the end of the block, or rolled back when the block raises. Raises AwayError."""
        async with self._begun(self.engine.execution_options(**{_WRITES: True})) as connection:
            yield connection

    async def close(self) -> None:
        await self.engine.dispose()

    @contextlib.asynccontextmanager
    async def _begun(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        try:
            async with engine.begin() as connection:
                yield connection
        except PoolTimeoutError as error:
            raise AwayError("no connection to the database was free in time; try again.") from error
        except DBAPIError as error:
            if error.connection_invalidated or _is_away(error):
                raise AwayError("the database does not answer now; try again.") from error
            raise
        except (ConnectionError, TimeoutError) as error:
            raise AwayError("the database cannot be reached now; try again.") from error


def connect(settings: DatabaseSettings, service: str, data: Path) -> Database:
    """The database of `service`: what `settings.url` names, else `data/services/SERVICE.db`. Connects at the first use.
    Raises DatabaseError."""
    if settings.url:
        return Database(_postgres(settings), None)
    path = data / "services" / f"{service}.db"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=_FILE_MODE)
    except OSError as error:
        raise DatabaseError(
            f"{path}: cannot be created: {error.strerror}; free space or fix the owner of {data}."
        ) from error
    return Database(_sqlite(settings, path), path)


def _postgres(settings: DatabaseSettings) -> AsyncEngine:
    try:
        url = make_url(settings.url).set(drivername="postgresql+asyncpg")
    except (ArgumentError, ValueError) as error:
        raise DatabaseError("the URL of the database must be postgresql://USER:PASSWORD@HOST/DATABASE.") from error
    return create_async_engine(
        url,
        hide_parameters=True,  # what a statement was about is somebody's own, and its error may reach a log
        pool_size=settings.connections_max,
        max_overflow=0,
        pool_timeout=settings.wait_s,
        pool_pre_ping=True,
        connect_args={
            "timeout": settings.wait_s,
            "command_timeout": settings.statement_s,
            "server_settings": {
                "application_name": "cordee",
                "lock_timeout": str(math.ceil(settings.wait_s * 1000)),
                "idle_in_transaction_session_timeout": str(math.ceil(settings.statement_s * 1000)),
            },
        },
    )


def _sqlite(settings: DatabaseSettings, path: Path) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        hide_parameters=True,  # as above
        pool_size=settings.connections_max,
        max_overflow=0,
        pool_timeout=settings.wait_s,
        connect_args={"timeout": settings.wait_s},
    )
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", _begin)
    event.listen(engine.sync_engine, "invalidate", _rolling_back_first())
    return engine


def _prepare(connection: Any, _record: object) -> None:
    # The driver's own idea of when a transaction begins is switched off: `_begin` says it.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "trusted_schema=OFF"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _rolling_back_first() -> Callable[[Any, object, object], None]:
    """What is done before a connection is closed because whoever used it was cancelled. SQLite closes one only when its last statement is
    gone, and keeps its lock until then; a statement lives as long as the trace of the cancellation, in a task that others wait for."""
    under_way: set[asyncio.Task[None]] = set()

    def invalidated(connection: Any, _record: object, _error: object) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # it was forgotten and is collected: nothing holds its statements
            return
        task = loop.create_task(_roll_back(connection.driver_connection))  # whose turn comes before that of closing
        under_way.add(task)
        task.add_done_callback(under_way.discard)

    return invalidated


async def _roll_back(connection: aiosqlite.Connection) -> None:
    with contextlib.suppress(ValueError, sqlite3.Error):  # closed already, or broken: there is nothing to roll back
        await connection.rollback()


def _is_away(error: DBAPIError) -> bool:
    """Whether waiting helps: locked, full or out of descriptors, or what PostgreSQL says of itself (_AWAY_CLASSES, _AWAY_STATES)."""
    origin = error.orig
    if isinstance(origin, sqlite3.OperationalError):
        return getattr(origin, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in (
            sqlite3.SQLITE_BUSY,
            sqlite3.SQLITE_LOCKED,
            sqlite3.SQLITE_FULL,
            sqlite3.SQLITE_IOERR,
            sqlite3.SQLITE_CANTOPEN,
        )
    state = getattr(origin, "sqlstate", None) or ""
    return state[:2] in _AWAY_CLASSES or state in _AWAY_STATES
