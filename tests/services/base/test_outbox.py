from __future__ import annotations

import json

import pytest
from sqlalchemy import MetaData

from cordee.config.sections.services import OutboxSettings
from cordee.services.base.database import Database
from cordee.services.base.outbox import Event, MemoryPublisher, Outbox, envelope, tables
from tests.services import on_both

pytestmark = pytest.mark.anyio
SETTINGS = OutboxSettings(batch_max=10, lease_s=30, publish_s=1, kept_s=100)


class Parts:
    """An outbox, a clock, and somebody who listens."""

    def __init__(self, database: Database) -> None:
        self.metadata = MetaData()
        self.tables = tables(self.metadata)
        self.database = database
        self.outbox = self.another()
        self.heard: list[Event] = []
        self.clock = 1000.0
        self.publisher = MemoryPublisher([self.heard.append])

    def another(self) -> Outbox:
        return Outbox("test", *self.tables, SETTINGS)

    def now(self) -> float:
        return self.clock

    async def tell(self, *names: str) -> None:
        async with self.database.writing() as on:
            for name in names:
                await self.outbox.append(on, self.clock, name, "thing_1", "tenant_1", {"n": name})

    async def relay(self, outbox: Outbox | None = None) -> int:
        return await (outbox or self.outbox).relay(self.database, self.publisher, self.now)


@pytest.fixture
async def parts(database: Database) -> Parts:
    made = Parts(database)
    async with database.writing() as on:
        await on.run_sync(made.metadata.create_all)
    return made


@on_both
async def test_events_are_handed_on_once_and_in_order(parts: Parts):
    await parts.tell(*(f"e{n}" for n in range(25)))
    assert [await parts.relay() for _ in range(4)] == [10, 10, 5, 0]
    assert [event.type for event in parts.heard] == [f"cordee.test.e{n}" for n in range(25)]


@on_both
async def test_what_was_not_committed_is_never_told(parts: Parts):
    with pytest.raises(KeyError):  # noqa: PT012 - the block is what raises
        async with parts.database.writing() as on:
            await parts.outbox.append(on, 1.0, "never", "thing_1", "tenant_1", {})
            raise KeyError
    assert await parts.relay() == 0


@on_both
async def test_an_event_that_is_not_taken_holds_up_those_behind_it(parts: Parts):
    await parts.tell("a", "b", "c")
    taken: list[str] = []

    class Failing:
        async def publish(self, event: Event) -> None:
            if event.type.endswith("b"):
                raise ConnectionError
            taken.append(event.type)

    assert await parts.outbox.relay(parts.database, Failing(), parts.now) == 1
    assert taken == ["cordee.test.a"]
    assert await parts.relay() == 2
    assert [event.type for event in parts.heard] == ["cordee.test.b", "cordee.test.c"]


@on_both
async def test_one_process_relays_until_it_has_been_silent_for_its_lease(parts: Parts):
    await parts.tell("a")
    other = parts.another()
    assert await parts.relay() == 1
    await parts.tell("b")
    assert await parts.relay(other) == 0
    parts.clock += SETTINGS.lease_s + 1
    assert await parts.relay(other) == 1


@on_both
async def test_sent_events_are_deleted_after_a_while_and_waiting_ones_never(parts: Parts):
    await parts.tell("a")
    await parts.relay()
    await parts.tell("b")
    assert await parts.outbox.forget(parts.database, parts.clock + 99) == 0
    assert await parts.outbox.forget(parts.database, parts.clock + 101) == 1
    assert await parts.relay() == 1


def test_an_envelope_is_a_cloud_event():
    event = Event("event_1", "cordee/test", "cordee.test.made", "thing_1", "tenant_1", 0.0, '{"a": "é"}')
    said = json.loads(envelope(event, lambda _: "1970-01-01T00:00:00Z"))
    assert said == {
        "specversion": "1.0", "id": "event_1", "source": "cordee/test", "type": "cordee.test.made", "subject": "thing_1",
        "time": "1970-01-01T00:00:00Z", "datacontenttype": "application/json", "tenant": "tenant_1", "data": {"a": "é"},
    }  # fmt: skip
