from __future__ import annotations

import asyncio
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from cordee.config.sections.services import DatabaseSettings
from cordee.services.base.database import AwayError, Database, DatabaseError, connect
from tests.services import on_both

pytestmark = pytest.mark.anyio


@on_both
async def test_a_writing_block_that_raises_leaves_nothing(database: Database):
    async with database.writing() as on:
        await on.execute(text("CREATE TABLE things (name VARCHAR(10))"))
    with pytest.raises(KeyError):  # noqa: PT012 - the block is what raises
        async with database.writing() as on:
            await on.execute(text("INSERT INTO things VALUES ('a')"))
            raise KeyError
    async with database.reading() as on:
        assert (await on.execute(text("SELECT count(*) FROM things"))).scalar_one() == 0


@on_both
async def test_an_error_does_not_say_what_was_to_be_written(database: Database):
    with pytest.raises(DBAPIError) as broken:
        async with database.writing() as on:
            await on.execute(text("INSERT INTO nowhere VALUES (:said)"), {"said": "hunter2"})
    assert "INSERT INTO nowhere" in str(broken.value)
    assert "hunter2" not in str(broken.value)


@on_both
async def test_two_writers_wait_for_each_other(database: Database):
    async with database.writing() as on:
        await on.execute(text("CREATE TABLE counts (n INTEGER)"))
        await on.execute(text("INSERT INTO counts VALUES (0)"))

    async def add() -> None:
        async with database.writing() as on:
            await on.execute(text("UPDATE counts SET n = n + 1"))

    await asyncio.gather(*(add() for _ in range(16)))
    async with database.reading() as on:
        assert (await on.execute(text("SELECT n FROM counts"))).scalar_one() == 16


async def test_who_is_cancelled_in_the_middle_of_a_statement_holds_up_nobody(tmp_path: Path):
    database = connect(DatabaseSettings(wait_s=5.0), "test", tmp_path)  # a lock that is kept is kept for ever
    async with database.writing() as on:
        await on.execute(text("CREATE TABLE counts (n INTEGER)"))
    runs, goes_on = threading.Event(), threading.Event()

    def begun() -> bool:
        runs.set()
        return goes_on.wait(30)

    async def count() -> None:
        async with database.writing() as on:
            raw = await on.get_raw_connection()
            driver: Any = raw.driver_connection
            await driver.create_function("begun", 0, begun)
            await on.execute(text("INSERT INTO counts VALUES (1)"))
            await on.execute(text("SELECT begun() UNION ALL SELECT 2"))

    task = asyncio.create_task(count())
    assert await asyncio.to_thread(runs.wait, 30)
    task.cancel()  # kept with its trace, as long as others are waited for together with it
    await asyncio.sleep(0)
    goes_on.set()
    await asyncio.wait({task})
    assert task.cancelled()
    async with database.writing() as on:
        assert (await on.execute(text("SELECT count(*) FROM counts"))).scalar_one() == 0
    await database.close()


async def test_a_locked_sqlite_is_away_and_not_broken(tmp_path: Path):
    database = connect(DatabaseSettings(wait_s=0.05), "test", tmp_path)
    async with database.writing():
        with pytest.raises(AwayError):
            async with database.writing():
                pass
    await database.close()


@pytest.mark.e2e
@pytest.mark.parametrize("database_settings", ["postgresql"], indirect=True)
async def test_a_server_that_only_reads_for_now_is_away(database: Database):
    async with database.writing() as on:
        await on.execute(text("CREATE TABLE things (name VARCHAR(10))"))
    with pytest.raises(AwayError):  # noqa: PT012 - the block is what raises
        async with database.writing() as on:
            await on.execute(text("SET TRANSACTION READ ONLY"))
            await on.execute(text("INSERT INTO things VALUES ('a')"))


async def test_a_server_that_is_not_there_is_away():
    database = connect(DatabaseSettings(url="postgresql://nobody@127.0.0.1:1/none"), "test", Path())
    with pytest.raises(AwayError):
        async with database.reading():
            pass
    await database.close()


async def test_the_sqlite_file_is_for_its_owner_only(tmp_path: Path):
    database = connect(DatabaseSettings(), "test", tmp_path)
    async with database.writing():
        pass
    assert database.path is not None
    assert stat.S_IMODE(database.path.stat().st_mode) == 0o600
    await database.close()


async def test_a_url_that_is_none_is_named(tmp_path: Path):
    with pytest.raises(DatabaseError, match="postgresql://USER"):
        connect(DatabaseSettings(url="postgresql://[::1/x"), "test", tmp_path)
