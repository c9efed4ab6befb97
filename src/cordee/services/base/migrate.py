"""A service's schema is brought to where its code is: forwards when it starts, back when asked, one process at a time.

Each service has a history of its own: a package with `env.py`, which is this project's one line, and `versions/`. All steps of one
move are one transaction, so a crash in the middle leaves the schema as it was. What a newer program has made is refused, never
guessed at.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from weakref import WeakKeyDictionary

from alembic import command, context
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, MetaData, text

from cordee.domain.record import record
from cordee.services.base.database import Database, DatabaseError

HEAD = "head"
NOTHING = "base"
_LOOK_S = 0.05  # between two tries for the lock of a file
_LOCK_SUFFIX = ".migrating"
_METADATA = "metadata"
_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakKeyDictionary()


class NewerError(DatabaseError):
    """A newer program has changed the schema."""


class BusyError(DatabaseError):
    """Another process has been migrating for too long."""


@record
class Standing:
    """Where a schema is, and where this program wants it: `here` is None for nothing. `is_known`: this program knows where it is, else
    a newer one has been there."""

    here: str | None
    head: str | None
    is_known: bool


async def standing(database: Database, history: Path) -> Standing:
    """Raises AwayError."""
    async with database.reading() as connection:
        return await connection.run_sync(_standing, history)


async def migrate(database: Database, history: Path, metadata: MetaData, wait_s: float, to: str = HEAD) -> str | None:
    """Bring the schema to revision `to` (`HEAD`, `NOTHING`, or a name) and return where it is then; None for nothing.

    `history`: the folder with `env.py` and `versions/`. `wait_s`: seconds to wait for another process. Raises DatabaseError.
    """
    async with _alone(database, history, wait_s), database.writing() as connection:
        if database.is_postgres:
            # Held until the transaction ends, also by a crash; the file lock above is for SQLite, which has none.
            await connection.execute(
                text("SELECT set_config('lock_timeout', :wait, true)"), {"wait": f"{int(wait_s * 1000)}"}
            )
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _lock_key(history)})
        async with _in_turn():
            return await connection.run_sync(_move, history, metadata, to)


def _in_turn() -> asyncio.Lock:
    """Alembic keeps the migration under way in globals of its own, so in one process one service migrates at a time: each step
    awaits the database, and the next service would find the globals of the one before."""
    return _TURNS.setdefault(asyncio.get_running_loop(), asyncio.Lock())


def run() -> None:
    """What a history's `env.py` does: run the steps on the connection that `migrate` holds."""
    connection: Connection = context.config.attributes["connection"]
    context.configure(
        connection=connection,
        target_metadata=context.config.attributes[_METADATA],
        render_as_batch=connection.dialect.name == "sqlite",  # SQLite changes a table by copying it
    )
    context.run_migrations()


def _standing(connection: Connection, history: Path) -> Standing:
    config = Config()
    config.set_main_option("script_location", str(history).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    here = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in scripts.walk_revisions()}
    return Standing(here, scripts.get_current_head(), here is None or here in known)


def _move(connection: Connection, history: Path, metadata: MetaData, to: str) -> str | None:
    config = Config()
    config.set_main_option("script_location", str(history).replace("%", "%%"))
    config.attributes["connection"] = connection
    config.attributes[_METADATA] = metadata
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    here = MigrationContext.configure(connection).get_current_revision()
    if here is not None and here not in known:
        raise NewerError(
            f"the database is at revision {here}, which this program does not know: a newer version has migrated it. "
            f"Start that version, or restore a backup from before the update."
        )
    try:
        if to == HEAD or to not in _behind(config, here):
            command.upgrade(config, to)
        else:
            command.downgrade(config, to)
    except CommandError as error:
        raise DatabaseError(f"revision {to}: {error}; known are {', '.join(sorted(known))}.") from error
    return MigrationContext.configure(connection).get_current_revision()


def _behind(config: Config, here: str | None) -> set[str]:
    """The revisions that lie before `here`, nothing included."""
    if here is None:
        return {NOTHING}
    earlier = {script.revision for script in ScriptDirectory.from_config(config).iterate_revisions(here, NOTHING)}
    return (earlier - {here}) | {NOTHING}


@contextlib.asynccontextmanager
async def _alone(database: Database, history: Path, wait_s: float) -> AsyncIterator[None]:
    """Hold the lock file beside a SQLite database. The kernel frees it at a crash."""
    if database.path is None:
        yield
        return
    path = database.path.with_name(database.path.name + _LOCK_SUFFIX)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        until = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise BusyError(
                        f"{path}: another process has been migrating for {wait_s:g} s; wait for it, or end it, then try again."
                    ) from error
                await asyncio.sleep(_LOOK_S)
        yield
    finally:
        os.close(descriptor)


def _lock_key(history: Path) -> int:
    """The advisory lock of one service: the same in every process, and hardly anybody else's."""
    name = f"cordee.{history.parent.name}.migrations".encode()
    return int.from_bytes(hashlib.sha256(name).digest()[:8], "big", signed=True)
