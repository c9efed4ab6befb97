"""Many records at once are one transaction; one that is refused does not take the others with it."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.database import Database
from cordee.services.chats.group import GROUP_MAX, Group, Write
from cordee.services.chats.tables import erasures

pytestmark = pytest.mark.anyio


def write_of(subject: str, transactions: set[int], *, fails: bool = False) -> Write:
    async def write(on: AsyncConnection) -> None:
        transactions.add(id(on.sync_connection))
        await on.execute(insert(erasures).values(tenant="tenant", subject=subject, at=1.0))
        if fails:
            raise ValueError(subject)

    return write


async def subjects(database: Database) -> list[str]:
    async with database.reading() as on:
        return list((await on.execute(select(erasures.c.subject).order_by(erasures.c.subject))).scalars())


@pytest.fixture
async def group(database: Database) -> Group:
    async with database.writing() as on:
        await on.run_sync(erasures.create)
    return Group(database)


async def test_what_comes_while_one_is_written_is_written_together(group: Group, database: Database) -> None:
    transactions: set[int] = set()
    names = [f"{number:03}" for number in range(2 * GROUP_MAX)]
    await asyncio.gather(*(group.write(write_of(name, transactions)) for name in names))
    assert await subjects(database) == names
    assert len(transactions) <= 4


async def test_one_that_is_refused_leaves_the_others_written(group: Group, database: Database) -> None:
    writes = [group.write(write_of(name, set(), fails=name == "b")) for name in "abc"]
    found = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(one) for one in found] == [type(None), ValueError, type(None)]
    assert await subjects(database) == ["a", "c"]


async def test_a_cancelled_writer_leaves_nobody_waiting(group: Group, database: Database) -> None:
    begun = asyncio.Event()

    async def hangs(on: AsyncConnection) -> None:
        await on.execute(text("SELECT 1"))
        begun.set()
        await asyncio.Event().wait()

    first = asyncio.create_task(group.write(hangs))
    await begun.wait()
    second = asyncio.create_task(group.write(write_of("second", set())))
    first.cancel()
    await second
    assert await subjects(database) == ["second"]
