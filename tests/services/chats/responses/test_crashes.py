"""What a process leaves when it is killed is gone on with, or settled as far as it was sent; by whichever process comes next."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from cordee.config.sections.services import Chats
from cordee.services.base.ground import Ground
from cordee.services.base.principal import Principal
from cordee.services.chats.responses import runs
from cordee.services.chats.responses.deltas import Extent
from cordee.services.chats.responses.projection import named
from cordee.services.chats.responses.queueing import queue
from cordee.services.chats.responses.request import read
from cordee.services.chats.responses.sent import Left, Sent, left_behind
from cordee.services.chats.responses.settling import settle
from cordee.services.chats.responses.translate_out import Status, begun
from cordee.services.chats.responses.work import begun as begun_telling
from cordee.services.chats.responses.work import work_of, written
from cordee.services.chats.service import Service
from tests.services.chats.responses.conftest import ADA, CALL, NOW, WORDS, Gateways, House, text
from tests.services.chats.responses.test_api import soon

pytestmark = pytest.mark.anyio
WHO = Principal(ADA.tenant, ADA.key, ADA.subject, ADA.scopes)
STORES = pytest.mark.parametrize(
    "database_settings", ["sqlite", pytest.param("postgres", marks=pytest.mark.e2e)], indirect=True
)
LONG = 1_000_000.0


def killed(sent: Sent) -> None:
    """Its lock is gone, as the kernel takes it away; its file stays."""
    fcntl.flock(sent._file, fcntl.LOCK_UN)


def test_what_was_noted_is_found_by_who_comes_after_a_death_and_never_before(tmp_path: Path) -> None:
    own, other = Sent(tmp_path, "own", 4), Sent(tmp_path, "other", 4)
    slots = [other.take(f"resp_{number}", b"beginning") for number in range(5)]
    assert slots[4] is None
    for slot in slots[:2]:
        assert slot is not None
        slot.note(CALL, Extent(1, 2, 3, 4))
    assert slots[1] is not None
    slots[1].free()
    with left_behind(tmp_path, own.path) as found:
        assert found == []
    killed(other)
    with left_behind(tmp_path, own.path) as found:
        assert found[0] == Left("resp_0", CALL, Extent(1, 2, 3, 4), b"beginning")
        assert [left.response for left in found] == ["resp_0", "resp_2", "resp_3"]
        assert all(left.extent == Extent() for left in found[1:])
    assert not other.path.exists()
    own.close()


@STORES
@pytest.mark.parametrize("is_known", [False, True], ids=["before the database knew", "later"])
async def test_a_stream_whose_process_died_is_stored_as_far_as_it_was_sent(
    house: House, tmp_path: Path, is_known: bool
) -> None:
    service: Service = house.app.state.service
    work = await work_of(service, WHO, read(b'{"model":"m","input":"Count.","stream":true}'))
    beginning = begun_telling(work, begun(work.fields, Status.IN_PROGRESS))
    if is_known:
        await service.recorder.record([beginning])
    dead = Sent(tmp_path / "services" / "responses", "dead", 4)
    slot = dead.take(work.id, written(beginning))
    assert slot is not None
    slot.note(CALL, Extent(content=len("One two th")))
    killed(dead)

    async def is_settled() -> bool:
        async with house.database.reading() as on:
            known = await named(on, work.id)
        return known is not None and known[1].body["status"] != "in_progress"

    await soon(is_settled)
    found = await house.client().responses.retrieve(work.id)
    assert (found.status, found.output_text, found.incomplete_details) == ("incomplete", "One two th", None)
    caller, asked = house.door.asked[-1]
    assert (asked.method, asked.path, caller) == ("GET", f"/v1/calls/{CALL}/events", ADA)


@STORES
async def test_a_stream_of_a_server_that_is_gone_ends_when_it_cannot_be_going_on(house: House) -> None:
    service: Service = house.app.state.service
    work = await work_of(service, WHO, read(b'{"model":"m","input":"Count.","stream":true}'))
    await service.recorder.record([begun_telling(work, begun(work.fields, Status.IN_PROGRESS))])
    later = service.ground.now() + LONG
    aged = Service(
        service.settings, service.database, _at(service, later), service.log, service.outbox, service.recorder
    )  # fmt: skip
    assert await settle(aged, house.app.state.responses.sent) == 1
    assert (await house.client().responses.retrieve(work.id)).status == "incomplete"


def _at(service: Service, now: float) -> Ground:
    ground = service.ground
    return Ground(ground.data, ground.secret, ground.door, ground.publisher, lambda: now)


@pytest.fixture
async def quiet(settings: Chats, tmp_path: Path, door: Gateways) -> AsyncIterator[House]:
    """A process that runs nothing in the background by itself."""
    idle = msgspec.structs.replace(settings.responses, background_max=0)
    made = House(msgspec.structs.replace(settings, responses=idle), tmp_path, door, lambda: NOW)
    async with made.app.router.lifespan_context(made.app):
        yield made


@STORES
async def test_a_run_whose_process_died_is_gone_on_with_behind_what_was_stored(
    quiet: House, settings: Chats, tmp_path: Path
) -> None:
    service: Service = quiet.app.state.service
    work = await work_of(service, WHO, read(b'{"model":"m","input":"Count.","background":true}'))
    await queue(service, work)
    other = Gateways()
    other.held = 3
    first = House(settings, tmp_path, other, lambda: NOW)
    stack = first.app.router.lifespan_context(first.app)
    await stack.__aenter__()

    async def has_said_something() -> bool:
        async with quiet.database.reading() as on:
            return len(await runs.stored_events(on, work.id, -1, 100)) > 6

    await soon(has_said_something)
    third = Gateways()
    third.chunks = text("One t", "wo thr", "ee four.")
    second = House(settings, tmp_path, third, lambda: NOW + 100.0)
    async with second.app.router.lifespan_context(second.app):

        async def is_over() -> bool:
            return (await quiet.client().responses.retrieve(work.id)).status == "completed"

        await soon(is_over)
    other.go.set()  # it wakes, and finds that it has lost
    await asyncio.sleep(0)
    await stack.__aexit__(None, None, None)
    found = await quiet.client().responses.retrieve(work.id)
    assert found.output_text == "".join(WORDS)
    events = [event async for event in await quiet.client().responses.retrieve(work.id, stream=True)]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert said == "".join(WORDS)
    assert [asked.key for _, asked in (*other.asked, *third.asked)] == [work.id, work.id]


async def test_an_answer_that_comes_out_differently_fails_instead_of_being_put_together(
    quiet: House, settings: Chats, tmp_path: Path
) -> None:
    service: Service = quiet.app.state.service
    work = await work_of(service, WHO, read(b'{"model":"m","input":"Count.","background":true}'))
    await queue(service, work)
    other = Gateways()
    other.held = 3
    first = House(settings, tmp_path, other, lambda: NOW)
    async with first.app.router.lifespan_context(first.app):

        async def has_said_something() -> bool:
            async with quiet.database.reading() as on:
                return len(await runs.stored_events(on, work.id, -1, 100)) > 6

        await soon(has_said_something)
    third = Gateways()
    third.chunks = text("Another", " answer")
    second = House(settings, tmp_path, third, lambda: NOW + 100.0)
    async with second.app.router.lifespan_context(second.app):

        async def is_over() -> bool:
            return (await quiet.client().responses.retrieve(work.id)).status == "failed"

        await soon(is_over)
    found = await quiet.client().responses.retrieve(work.id)
    assert found.output_text == "One two"
