from __future__ import annotations

import asyncio
import fcntl
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text

from cordee.config.sections.services import DatabaseSettings
from cordee.services.accounts.app import HISTORY
from cordee.services.accounts.tables import metadata
from cordee.services.base.database import Database, DatabaseError, connect
from cordee.services.base.migrate import HEAD, NOTHING, BusyError, NewerError, migrate
from tests.services import on_both

pytestmark = pytest.mark.anyio
WAIT_S = 10.0


@on_both
async def test_the_newest_revision_is_what_the_code_says(database: Database):
    await migrate(database, HISTORY, metadata, WAIT_S)

    def differences(on: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(on, opts={"compare_type": True}), metadata))

    async with database.reading() as on:
        assert await on.run_sync(differences) == []


@on_both
async def test_it_goes_back_and_forth(database: Database):
    head = await migrate(database, HISTORY, metadata, WAIT_S)
    assert head is not None
    assert await migrate(database, HISTORY, metadata, WAIT_S, HEAD) == head
    assert await migrate(database, HISTORY, metadata, WAIT_S, NOTHING) is None
    async with database.reading() as on:
        assert set(await on.run_sync(lambda c: inspect(c).get_table_names())) <= {"alembic_version"}
    assert await migrate(database, HISTORY, metadata, WAIT_S, "0001") == "0001"


@on_both
async def test_many_at_once_make_one_schema(database: Database):
    revisions = await asyncio.gather(*(migrate(database, HISTORY, metadata, WAIT_S) for _ in range(4)))
    assert len(set(revisions)) == 1


@on_both
async def test_a_newer_schema_is_refused_and_left_alone(database: Database):
    await migrate(database, HISTORY, metadata, WAIT_S)
    async with database.writing() as on:
        await on.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerError, match="revision 9999, which this program does not know"):
        await migrate(database, HISTORY, metadata, WAIT_S)
    async with database.reading() as on:
        assert (await on.execute(text("SELECT version_num FROM alembic_version"))).scalar_one() == "9999"


@on_both
async def test_an_unknown_revision_is_named(database: Database):
    with pytest.raises(DatabaseError, match="known are 0001, 0002"):
        await migrate(database, HISTORY, metadata, WAIT_S, "abcd")


async def test_another_process_that_takes_too_long_is_said(tmp_path: Path):
    database = connect(DatabaseSettings(), "test", tmp_path)
    assert database.path is not None
    with (tmp_path / "services" / "test.db.migrating").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="another process has been migrating"):
            await migrate(database, HISTORY, metadata, 0.01)
    await database.close()
