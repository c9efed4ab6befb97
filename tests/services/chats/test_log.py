"""The log and its projections: one contract on every database."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, delete, select, text, update

from cordee.services.base.migrate import NOTHING, migrate
from cordee.services.chats.app import HISTORY
from cordee.services.chats.log import ERASED, NEW, ConflictError, NoStreamError, Owner, told
from cordee.services.chats.rebuild import rebuild
from cordee.services.chats.tables import conversations, events, items, metadata, streams, texts
from tests.services import on_both
from tests.services.chats.conftest import ADA, MIGRATE_S, House

pytestmark = pytest.mark.anyio
OWNER, OTHER = Owner("tn_one", "us_ada"), Owner("tn_two", "us_ada")
STREAM, PART = "conv_a", "resp_a"


def _told(*names: str) -> list[Any]:
    return [told("something", {"name": name}) for name in names]


@on_both
async def test_what_was_told_is_read_in_order(house: House):
    log = house.service.log
    async with house.database.writing() as on:
        assert await log.append(on, STREAM, OWNER, NEW, _told("a", "b"), 1.0) == 2
        assert await log.append(on, STREAM, OWNER, 2, _told("c"), 2.0) == 3
        assert await log.append(on, STREAM, OWNER, None, _told("d"), 3.0) == 4
    async with house.database.reading() as on:
        found = await log.read(on, STREAM, OWNER.tenant, 1, 2)
        assert [(one.version, one.data["name"], one.time) for one in found] == [(2, "b", 1.0), (3, "c", 2.0)]
        assert [one.data["name"] for one in await log.since(on, 0)] == ["a", "b", "c", "d"]
        assert await log.read(on, STREAM, OTHER.tenant) == []
        assert await log.version(on, STREAM, OWNER) == 4
        assert await log.version(on, STREAM, OTHER) is None
        assert await log.is_told(on, found[0].id)


@on_both
async def test_another_version_than_expected_is_a_conflict_and_leaves_nothing(house: House):
    log = house.service.log
    async with house.database.writing() as on:
        await log.append(on, STREAM, OWNER, NEW, _told("a"), 1.0)
    for expected in (NEW, 2, 7):
        with pytest.raises(ConflictError):
            async with house.database.writing() as on:
                await log.append(on, STREAM, OWNER, expected, _told("b"), 1.0)
    for stream, owner in ((STREAM, OTHER), ("conv_b", OWNER)):
        with pytest.raises(NoStreamError):
            async with house.database.writing() as on:
                await log.append(on, stream, owner, None, _told("b"), 1.0)
    async with house.database.reading() as on:
        assert [one.data["name"] for one in await log.since(on, 0)] == ["a"]


@on_both
async def test_many_writers_at_once_leave_no_gap(house: House):
    log = house.service.log
    async with house.database.writing() as on:
        await log.append(on, STREAM, OWNER, NEW, _told("first"), 1.0)

    async def write(name: str) -> None:
        async with house.database.writing() as on:
            await log.append(on, STREAM, OWNER, None, _told(name, name), 1.0)

    await asyncio.gather(*(write(str(number)) for number in range(12)))
    async with house.database.writing() as on:
        settled = await log.settled(on)
        found = await log.read(on, STREAM, OWNER.tenant)
    assert [one.version for one in found] == list(range(1, 26))
    assert [one.position for one in found] == sorted(one.position for one in found)
    assert settled == found[-1].position
    assert all(found[at].data == found[at + 1].data for at in range(1, 25, 2))


@on_both
async def test_erasing_leaves_a_tombstone_without_content(house: House):
    log = house.service.log
    async with house.database.writing() as on:
        await log.append(on, STREAM, OWNER, NEW, _told("a", "b"), 1.0)
        await log.append(on, PART, OWNER, NEW, _told("c"), 1.0, STREAM)
        assert not await log.erase(on, STREAM, OTHER, 2.0)
        assert await log.erase(on, STREAM, OWNER, 2.0)
        assert not await log.erase(on, STREAM, OWNER, 2.0)
    async with house.database.reading() as on:
        left = await log.since(on, 0)
        assert sorted((one.stream, one.version, one.type) for one in left) == [(STREAM, 3, ERASED), (PART, 2, ERASED)]
        assert all(one.data == {} for one in left)
    for expected, error in ((None, NoStreamError), (NEW, ConflictError)):
        with pytest.raises(error):
            async with house.database.writing() as on:
                await log.append(on, STREAM, OWNER, expected, _told("late"), 3.0)
    with pytest.raises(NoStreamError):
        async with house.database.writing() as on:
            await log.append(on, "resp_b", OWNER, NEW, _told("late"), 3.0, STREAM)


async def _fill(house: House) -> None:
    """Conversations in all states that there are."""
    first = await house.conversation("The queen bee", "lays eggs", "all day")
    await house.conversation("Ours", caller=ADA)
    listed = (await house.ok("GET", f"/v1/conversations/{first}/items?order=asc"))["data"]
    await house.ok("DELETE", f"/v1/conversations/{first}/items/{listed[0]['id']}")
    await house.ok("POST", f"/v1/conversations/{first}", ADA, {"metadata": {"a": "b"}})
    chosen = await house.conversation("x")
    await house.ok("POST", f"/v1/chats/{chosen}", ADA, {"title": "Chosen", "archived": True})
    gone = await house.conversation("gone")
    await house.ok("DELETE", f"/v1/conversations/{gone}")


async def _seen(house: House) -> list[list[Any]]:
    async with house.database.reading() as on:
        return [
            [tuple(row) for row in (await on.execute(select(table).order_by(*table.primary_key.columns))).all()]
            for table in (conversations, items, texts)
        ]


@on_both
async def test_a_rebuild_makes_what_was_there(house: House):
    await _fill(house)
    before = await _seen(house)
    found = await house.ok("GET", "/v1/chats/search?q=eggs")
    async with house.database.writing() as on:  # whatever became of it
        await on.execute(delete(items).where(items.c.number == 3))
        await on.execute(delete(texts))
        await on.execute(update(conversations).values(title="wrong"))
        row = {
            "id": "conv_ghost",
            "tenant": "t",
            "subject": "",
            "created_at": 0,
            "updated_at": 0,
            "title": "",
            "titled_by": 0,
        }
        await on.execute(conversations.insert().values(**row, is_archived=False, metadata={}))
    assert await rebuild(house.service.log, house.database) == 3
    assert await _seen(house) == before
    assert await house.ok("GET", "/v1/chats/search?q=eggs") == found
    assert await rebuild(house.service.log, house.database) == 3
    assert await _seen(house) == before


@on_both
async def test_what_was_deleted_is_nowhere(house: House):
    name = await house.conversation("xylophone secrets", "harmless")
    item = (await house.ok("GET", f"/v1/conversations/{name}/items?order=asc"))["first_id"]
    assert (await house.ok("GET", f"/v1/chats/{name}"))["title"] == "xylophone secrets"
    await house.ok("DELETE", f"/v1/conversations/{name}/items/{item}")
    assert (await house.ok("GET", f"/v1/chats/{name}"))["title"] == "harmless"
    other = await house.conversation("xylophone too")
    await house.ok("DELETE", f"/v1/conversations/{other}")
    async with house.database.reading() as on:
        for table in metadata.sorted_tables:
            rows = (await on.execute(select(table))).all()
            assert "xylophone" not in str(rows), table.name
        if not house.database.is_postgres:
            found = await on.execute(text("SELECT rowid FROM texts_fts WHERE texts_fts MATCH 'xylophone'"))
            assert found.all() == []
        heads = (await on.execute(select(streams.c.erased_at).order_by(streams.c.stream))).scalars().all()
        assert [head is None for head in heads] == [True, False]
        assert (await on.execute(select(events.c.id).where(events.c.stream == name))).all() != []


@on_both
async def test_the_schema_is_what_the_tables_say(house: House):
    def different(on: Connection) -> list[Any]:
        context = MigrationContext.configure(on, opts={"compare_type": True, "include_object": _is_ours})
        return list(compare_metadata(context, metadata))

    async with house.database.reading() as on:
        assert await on.run_sync(different) == []
    assert await migrate(house.database, HISTORY, metadata, MIGRATE_S, NOTHING) is None


def _is_ours(_thing: object, name: str | None, kind: str, *_more: object) -> bool:
    """All but the full-text indices, which every database has in a way of its own."""
    return not (kind == "table" and str(name).startswith("texts_fts")) and name != "ix_texts_words"
