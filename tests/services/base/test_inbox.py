from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.config.sections.services import InboxSettings
from cordee.services.base.broker import MemoryBroker
from cordee.services.base.database import AwayError, Database
from cordee.services.base.inbox import FencedError, Inbox, tables
from cordee.services.base.lease import Lease
from cordee.services.base.outbox import Event
from tests.services import on_both
from tests.services.base.test_broker import event

pytestmark = pytest.mark.anyio
SETTINGS = InboxSettings(lease_s=10, tries_max=3, kept_s=3600, parked_max=2)


class Parts:
    """An inbox, a clock, and effects of events."""

    def __init__(self, database: Database) -> None:
        self.metadata = MetaData()
        self.tables = tables(self.metadata)
        self.effects = Table("effects", self.metadata, Column("n", Integer, primary_key=True), Column("id", String(64)))
        self.database = database
        self.clock = 1_000_000.0
        self.broken = set[str]()
        self.inbox = self.another()
        self.lease = Lease(self.tables.leases, "test", SETTINGS.lease_s)

    def another(self) -> Inbox:
        inbox = Inbox("test", self.database, self.tables, SETTINGS, self.now)
        inbox.subscribe("cordee.test.*", self.note)
        return inbox

    def now(self) -> float:
        return self.clock

    async def note(self, on: AsyncConnection, one: Event) -> None:
        await on.execute(insert(self.effects).values(id=one.id))
        if one.id in self.broken:
            raise KeyError(one.id)

    async def done(self) -> list[str]:
        async with self.database.reading() as on:
            return [row.id for row in (await on.execute(select(self.effects).order_by(self.effects.c.n))).all()]

    async def taken(self, one: Event) -> None:
        """As a broker does: until it is taken."""
        for _ in range(SETTINGS.tries_max - 1):
            with pytest.raises(KeyError):
                await self.inbox.take(one)
        await self.inbox.take(one)


@pytest.fixture
async def parts(database: Database) -> Parts:
    made = Parts(database)
    async with database.writing() as on:
        await on.run_sync(made.metadata.create_all)
    return made


@on_both
async def test_an_event_has_its_effect_once_however_often_it_comes(parts: Parts):
    for _ in range(3):
        await parts.inbox.take(event(1))
        await parts.another().take(event(1))
    assert await parts.done() == [event(1).id]


@on_both
async def test_two_who_are_handed_one_event_at_once_do_it_once(parts: Parts):
    await asyncio.gather(*(parts.another().take(event(1)) for _ in range(4)))
    assert await parts.done() == [event(1).id]


@on_both
async def test_who_lost_its_lease_writes_nothing(parts: Parts):
    first = await parts.lease.take(parts.database, parts.clock)
    assert first is not None
    await parts.inbox.take(event(1), first)
    parts.clock += SETTINGS.lease_s + 1
    second = await Lease(parts.tables.leases, "test", SETTINGS.lease_s).take(parts.database, parts.clock)
    assert second == first + 1
    with pytest.raises(FencedError):
        await parts.inbox.take(event(2), first)
    await parts.another().take(event(2), second)
    assert await parts.done() == [event(1).id, event(2).id]


@on_both
async def test_a_lease_is_one_processs_until_it_is_silent_or_gives_it_back(parts: Parts):
    other = Lease(parts.tables.leases, "test", SETTINGS.lease_s)
    assert await parts.lease.take(parts.database, parts.clock) == 1
    assert await other.take(parts.database, parts.clock) is None
    assert await parts.lease.take(parts.database, parts.clock + 5) == 1
    assert await other.take(parts.database, parts.clock + SETTINGS.lease_s + 1) is None
    await parts.lease.give_back(parts.database)
    assert await other.take(parts.database, parts.clock) == 2
    await parts.lease.give_back(parts.database)
    assert await other.take(parts.database, parts.clock) == 2


@on_both
async def test_an_event_that_cannot_be_handled_is_put_aside_without_half_an_effect(parts: Parts):
    parts.broken.add(event(1).id)
    await parts.taken(event(1))
    await parts.inbox.take(event(2))
    await parts.inbox.take(event(1))
    assert await parts.done() == [event(2).id]
    ((aside, said),) = await parts.inbox.parked(10)
    assert aside == event(1)
    assert said.startswith("KeyError")


@on_both
async def test_what_was_put_aside_is_tried_again_when_a_process_begins_to_listen(parts: Parts):
    parts.broken = {event(1).id, event(2).id}
    for number in (1, 2):
        parts.clock += 1
        await parts.taken(event(number))
    parts.broken = {event(2).id}
    listening = asyncio.create_task(parts.another().run(MemoryBroker(["test"])))
    while await parts.done() != [event(1).id]:
        await asyncio.sleep(0)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    assert [one for one, _ in await parts.inbox.parked(10)] == [event(2)]


@on_both
async def test_no_more_is_put_aside_than_may_be_and_the_oldest_goes_first(parts: Parts):
    parts.broken = {event(n).id for n in range(4)}
    for number in range(4):
        parts.clock += 1
        await parts.taken(event(number))
    assert [one for one, _ in await parts.inbox.parked(10)] == [event(2), event(3)]


async def test_a_database_that_is_away_is_not_the_events_fault(parts: Parts):
    async def away(on: AsyncConnection, one: Event) -> None:
        raise AwayError("not now")

    parts.inbox.subscribe("*", away)
    for _ in range(2 * SETTINGS.tries_max):
        with pytest.raises(AwayError):
            await parts.inbox.take(event(1))
    assert await parts.inbox.parked(10) == []
    assert await parts.done() == []


async def test_an_event_that_nobody_wants_costs_nothing(parts: Parts):
    parts.database.writing = None  # type: ignore[assignment, method-assign]  # whoever used it would fail
    other = Event("event_1", "cordee/other", "cordee.other.made", "thing_1", "tenant_1", 1.0, "{}")
    await parts.inbox.take(other)
