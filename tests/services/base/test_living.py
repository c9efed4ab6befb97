from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import MetaData, text

from cordee.config.sections.services import DatabaseSettings
from cordee.services.base.database import DatabaseError, connect
from cordee.services.base.living import beside, opened
from cordee.services.files.app import HISTORY
from cordee.services.files.tables import metadata

pytestmark = pytest.mark.anyio
WAIT_S = 10.0


async def test_what_runs_beside_is_over_behind_the_block():
    begun, over = asyncio.Event(), list[str]()

    async def run(name: str) -> None:
        begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            over.append(name)

    async with beside(run("a"), run("b")):
        await begun.wait()
        await asyncio.sleep(0)
        assert not over
    assert sorted(over) == ["a", "b"]


@pytest.mark.parametrize("is_newer", [False, True])
async def test_a_database_is_closed_at_the_end_and_where_it_cannot_be_used(tmp_path: Path, is_newer: bool):
    database = connect(DatabaseSettings(), "files", tmp_path)
    async with opened(database, HISTORY, metadata, WAIT_S), database.reading() as on:
        assert (await on.execute(text("SELECT count(*) FROM files"))).scalar() == 0
    if is_newer:
        database = connect(DatabaseSettings(), "files", tmp_path)
        async with database.writing() as on:
            await on.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(DatabaseError, match="newer"):
            async with opened(database, HISTORY, MetaData(), WAIT_S):
                raise AssertionError("it was opened")
    # Who holds a connection holds the file; a closed one has none, and SQLite has put its log away.
    assert not list((tmp_path / "services").glob("files.db-wal"))
