"""What an owner was answered is there, also while it waits on disk for the database."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import openai
import pytest
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncEngine

from cordee.config.sections.services import Chats
from cordee.config.sections.services import Spool as SpoolSettings
from cordee.services.chats.leaving import erase
from cordee.services.chats.recorder import Recorder
from cordee.services.chats.service import Service
from cordee.services.chats.tables import responses
from cordee.wire.vouch import Vouched
from tests.services import on_both
from tests.services.chats.responses.conftest import ADA, EVE, NOW, SCOPES, WORDS, Gateways, House

pytestmark = pytest.mark.anyio
SAID = "".join(WORDS)
BOB = Vouched("tenant_a", "key_bob", "user_bob", SCOPES)


@pytest.fixture
def settings(settings: Chats, record_s: float) -> Chats:
    """The drain is called by the tests themselves."""
    return msgspec.structs.replace(settings, spool=SpoolSettings(record_s=record_s, drain_s=3600.0))


@contextlib.contextmanager
def behind() -> Iterator[None]:
    """What is recorded within goes to disk, as it does while anything waits there."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Recorder, "is_behind", True)
        yield


@contextlib.contextmanager
def away() -> Iterator[None]:
    """No database can be reached."""

    def refuse(_: AsyncEngine) -> None:
        raise ConnectionRefusedError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(AsyncEngine, "begin", refuse)
        yield


@pytest.fixture
async def other(house: House, settings: Chats, tmp_path: Path) -> AsyncIterator[House]:
    """Another process of the same data directory."""
    made = House(settings, tmp_path, Gateways(), lambda: NOW)
    async with made.app.router.lifespan_context(made.app):
        yield made


def service_of(house: House) -> Service:
    service: Service = house.app.state.service
    return service


async def drain(house: House) -> None:
    assert await service_of(house).recorder.drain()
    assert not service_of(house).recorder.is_behind


async def begun(house: House) -> str:
    """The id of the response that the database holds, as soon as there is one."""
    async with asyncio.timeout(30):
        while True:
            async with house.database.reading() as on:
                name = (await on.execute(select(responses.c.id))).scalar_one_or_none()
            if name is not None:
                return str(name)
            await asyncio.sleep(0.01)


async def is_missing(client: openai.AsyncOpenAI, name: str) -> bool:
    try:
        await client.responses.retrieve(name)
    except openai.NotFoundError:
        return True
    return False


@on_both
async def test_what_waits_on_disk_is_read_as_it_will_be_from_the_database_by_its_owner_alone(
    house: House, other: House
) -> None:
    client = house.client()
    with behind():
        made = await client.responses.create(model="m", input="Count.", metadata={"a": "b"})
        async with client.responses.stream(model="m", input="Again.") as stream:
            streamed = await stream.get_final_response()
    for reader in (client, other.client()):
        assert (await reader.responses.retrieve(made.id)).to_dict() == made.to_dict()
        assert (await reader.responses.retrieve(streamed.id)).output_text == SAID
        [item] = [item async for item in reader.responses.input_items.list(made.id)]
        assert item.to_dict()["content"] == [{"type": "input_text", "text": "Count."}]
    for stranger in (EVE, BOB):
        assert await is_missing(other.client(stranger), made.id)
        with pytest.raises(openai.NotFoundError):
            await other.client(stranger).responses.create(model="m", input="x", previous_response_id=made.id)
    assert await is_missing(client, "resp_0")
    await drain(house)
    assert (await other.client().responses.retrieve(made.id)).to_dict() == made.to_dict()


@on_both
async def test_a_chain_goes_on_from_what_waits_over_what_is_stored(house: House) -> None:
    client = house.client()
    first = await client.responses.create(model="m", input="1")
    second = await client.responses.create(model="m", input="2", previous_response_id=first.id)
    with behind():
        third = await client.responses.create(model="m", input="3", previous_response_id=second.id)
        fourth = await client.responses.create(model="m", input="4", previous_response_id=third.id)
    await client.responses.create(model="m", input="5", previous_response_id=fourth.id)
    asked = [message["content"] for message in house.door.bodies[-1]["messages"]]
    assert asked == ["1", SAID, "2", SAID, "3", SAID, "4", SAID, "5"]
    await drain(house)
    await client.responses.create(model="m", input="6", previous_response_id=fourth.id)
    assert [message["content"] for message in house.door.bodies[-1]["messages"]] == [*asked[:-1], "6"]


async def test_a_chain_is_as_long_as_it_may_be_wherever_it_lies(tmp_path: Path, settings: Chats) -> None:
    short = msgspec.structs.replace(settings, responses=msgspec.structs.replace(settings.responses, chain_max=2))
    house = House(short, tmp_path, Gateways(), lambda: NOW)
    async with house.app.router.lifespan_context(house.app):
        client = house.client()
        first = await client.responses.create(model="m", input="1")
        with behind():
            second = await client.responses.create(model="m", input="2", previous_response_id=first.id)
            third = await client.responses.create(model="m", input="3", previous_response_id=second.id)
            fourth = await client.responses.create(model="m", input="4", previous_response_id=third.id)
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.create(model="m", input="5", previous_response_id=fourth.id)
            assert refused.value.code == "chain_too_long"


async def test_without_the_database_what_waits_whole_is_there_and_the_rest_comes_later(house: House) -> None:
    client = house.client()
    stored = await client.responses.create(model="m", input="0")
    conversation = await client.conversations.create()
    with behind():
        in_conversation = await client.responses.create(model="m", input="x", conversation=conversation.id)
        behind_stored = await client.responses.create(model="m", input="y", previous_response_id=stored.id)
    with away():
        first = await client.responses.create(model="m", input="1")
        second = await client.responses.create(model="m", input="2", previous_response_id=first.id)
        assert [message["content"] for message in house.door.bodies[-1]["messages"]] == ["1", SAID, "2"]
        assert (await client.responses.retrieve(second.id)).to_dict() == second.to_dict()
        assert (await client.responses.retrieve(behind_stored.id)).output_text == SAID
        for name in (stored.id, in_conversation.id, "resp_0"):
            with pytest.raises(openai.InternalServerError) as refused:
                await client.responses.retrieve(name)
            assert (refused.value.status_code, refused.value.code) == (503, "database_away")
        with pytest.raises(openai.InternalServerError):
            await client.responses.create(model="m", input="z", previous_response_id=behind_stored.id)
    await drain(house)
    assert (await client.responses.retrieve(second.id)).to_dict() == second.to_dict()


@on_both
async def test_an_end_that_waits_is_the_end_of_what_the_database_holds(house: House, door: Gateways) -> None:
    client = house.client()
    door.held = 3
    plain = house.plain()
    asking = asyncio.create_task(plain.post("/v1/responses", json={"model": "m", "input": "Hi", "stream": True}))
    name = await begun(house)
    assert (await client.responses.retrieve(name)).status == "in_progress"
    with behind():
        door.go.set()
        assert "response.completed" in (await asking).text
    assert (await client.responses.retrieve(name)).output_text == SAID
    await client.responses.create(model="m", input="And?", previous_response_id=name)
    assert [message["content"] for message in door.bodies[-1]["messages"]] == ["Hi", SAID, "And?"]
    await client.responses.delete(name)
    assert await is_missing(client, name)
    await drain(house)
    assert await is_missing(client, name)


@on_both
async def test_what_waits_is_deleted_when_it_is_told_and_cannot_be_cancelled(house: House) -> None:
    client = house.client()
    with behind():
        made = await client.responses.create(model="m", input="Count.")
    with pytest.raises(openai.InternalServerError) as refused:
        await client.responses.delete(made.id)
    assert (refused.value.status_code, refused.value.code) == (503, "response_waits")
    assert refused.value.response.headers["retry-after"]
    with pytest.raises(openai.NotFoundError):
        await house.client(EVE).responses.delete(made.id)
    with pytest.raises(openai.BadRequestError):
        await client.responses.cancel(made.id)
    await drain(house)
    await client.responses.delete(made.id)
    assert await is_missing(client, made.id)


@on_both
async def test_what_was_erased_or_deleted_meanwhile_is_not_shown_from_disk(house: House) -> None:
    client, service = house.client(), service_of(house)
    conversation = await client.conversations.create()
    with behind():
        alone = await client.responses.create(model="m", input="x")
        part = await client.responses.create(model="m", input="x", conversation=conversation.id)
        late = await client.responses.create(model="m", input="y", previous_response_id=alone.id)
    await client.conversations.delete(conversation.id)
    assert await is_missing(client, part.id)
    assert not await is_missing(client, late.id)
    await erase(service, ADA.tenant, ADA.subject)
    for made in (alone, late):
        assert await is_missing(client, made.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="m", input="z", previous_response_id=made.id)


@on_both
async def test_what_was_told_and_then_deleted_elsewhere_is_not_shown_from_a_segment_that_is_still_there(
    house: House, tmp_path: Path
) -> None:
    client = house.client()
    with behind():
        made = await client.responses.create(model="m", input="x")
    service_of(house).recorder.close()
    [segment] = (tmp_path / "services" / "spool" / "chats").glob("*.jsonl")
    content = segment.read_bytes()
    await drain(house)
    await client.responses.delete(made.id)
    segment.write_bytes(content)
    assert await is_missing(client, made.id)
    await drain(house)
    assert await is_missing(client, made.id)


@on_both
async def test_a_conversation_goes_on_behind_what_waits_for_it(house: House) -> None:
    client = house.client()
    conversation = (await client.conversations.create()).id
    await client.responses.create(model="m", input="1", conversation=conversation)
    with behind():
        await client.responses.create(model="m", input="2", conversation=conversation)
        await client.responses.create(model="m", input="3", conversation=conversation)
    asked = [message["content"] for message in house.door.bodies[-1]["messages"]]
    assert asked == ["1", SAID, "2", SAID, "3"]
    await drain(house)
    await client.responses.create(model="m", input="4", conversation=conversation)
    assert [message["content"] for message in house.door.bodies[-1]["messages"]] == [*asked, SAID, "4"]
