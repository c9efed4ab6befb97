"""Responses as the official client sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import openai
import pytest
from pydantic import BaseModel

from cordee.services.base.door import DoorError, RefusedError
from cordee.services.chats.responses import runs
from cordee.wire.errors import body as error_body
from tests.services.chats.responses.conftest import EVE, WORDS, Gateways, House, call, text

pytestmark = pytest.mark.anyio
SAID = "".join(WORDS)


async def soon(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_a_whole_response_is_answered_stored_and_deleted(house: House) -> None:
    client = house.client()
    made = await client.responses.create(model="m", input="Count.", instructions="Be brief.", metadata={"a": "b"})
    assert (made.status, made.output_text, made.metadata) == ("completed", SAID, {"a": "b"})
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.input_tokens_details.cached_tokens, made.usage.total_tokens) == (
        3,
        1,
        5,
    )
    assert house.door.bodies[0]["messages"] == [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Count."},
    ]  # fmt: skip
    assert (await client.responses.retrieve(made.id)).to_dict() == made.to_dict()
    items = [item async for item in client.responses.input_items.list(made.id)]
    assert [item.to_dict()["content"] for item in items] == [[{"type": "input_text", "text": "Count."}]]
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)


async def test_a_stream_is_what_the_official_helper_accumulates_and_what_is_stored(house: House) -> None:
    client = house.client()
    async with client.responses.stream(model="m", input="Count.") as stream:
        deltas = [event.delta async for event in stream if event.type == "response.output_text.delta"]
        final = await stream.get_final_response()
    assert "".join(deltas) == final.output_text == SAID
    stored = await client.responses.retrieve(final.id)
    assert (stored.status, stored.output_text) == ("completed", SAID)


@pytest.mark.parametrize("record_s", [1.0])
async def test_the_first_event_leaves_while_the_database_is_locked_and_the_end_waits_for_disk(house: House) -> None:
    async with house.database.writing():
        events = [
            event.type async for event in await house.client().responses.create(model="m", input="Hi", stream=True)
        ]
    assert events[0] == "response.created"
    assert events[-1] == "response.completed"


async def test_an_unstored_response_is_nowhere(house: House) -> None:
    client = house.client()
    made = await client.responses.create(model="m", input="Count.", store=False)
    assert made.output_text == SAID
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)


async def test_a_chain_of_responses_is_a_chat_and_a_strangers_is_not_found(house: House) -> None:
    client = house.client()
    first = await client.responses.create(model="m", input="Count.")
    second = await client.responses.create(model="m", input="More.", previous_response_id=first.id)
    assert [turn["content"] for turn in house.door.bodies[-1]["messages"]] == ["Count.", SAID, "More."]
    with pytest.raises(openai.NotFoundError) as refused:
        await house.client(EVE).responses.create(model="m", input="More.", previous_response_id=second.id)
    assert refused.value.param == "previous_response_id"
    with pytest.raises(openai.NotFoundError):
        await house.client(EVE).responses.retrieve(second.id)
    await client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError) as gone:
        await client.responses.create(model="m", input="More.", previous_response_id=second.id)
    assert gone.value.param == "previous_response_id"


async def test_a_conversation_takes_input_and_output(house: House) -> None:
    client = house.client()
    conversation = await client.conversations.create()
    await client.responses.create(model="m", input="Count.", conversation=conversation.id)
    await client.responses.create(model="m", input="More.", conversation=conversation.id)
    assert [turn["content"] for turn in house.door.bodies[-1]["messages"]] == ["Count.", SAID, "More."]
    items = [item async for item in client.conversations.items.list(conversation.id, order="asc")]
    assert [item.to_dict()["role"] for item in items] == ["user", "assistant"] * 2
    with pytest.raises(openai.NotFoundError) as refused:
        await house.client(EVE).responses.create(model="m", input="Hi", conversation=conversation.id)
    assert refused.value.param == "conversation"


async def test_tools_are_offered_called_and_answered(house: House) -> None:
    client = house.client()
    house.door.chunks = call("weather", '{"city": ', '"Bergen"}')
    tools: Any = [
        {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}, "strict": True}
    ]
    async with client.responses.stream(model="m", input="Rain?", tools=tools, tool_choice="required") as stream:
        made = await stream.get_final_response()
    asked = made.output[0]
    assert asked.type == "function_call"
    assert (asked.name, asked.call_id, asked.arguments) == ("weather", "call_1", '{"city": "Bergen"}')
    sent = house.door.bodies[-1]
    assert (sent["tool_choice"], sent["tools"][0]["function"]["name"]) == ("required", "weather")
    house.door.chunks = text("Yes.")
    result: Any = [{"type": "function_call_output", "call_id": "call_1", "output": "wet"}]
    await client.responses.create(model="m", input=result, previous_response_id=made.id)
    turns = house.door.bodies[-1]["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool"]
    assert turns[1]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Bergen"}'}


async def test_a_parsed_response_has_its_shape(house: House) -> None:
    class City(BaseModel):
        name: str

    house.door.chunks = text('{"name": ', '"Bergen"}')
    parsed = await house.client().responses.parse(model="m", input="Where?", text_format=City)
    assert parsed.output_parsed == City(name="Bergen")
    assert house.door.bodies[-1]["response_format"]["json_schema"]["strict"] is True


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x"}, "model"),
        ({"model": "m"}, "input"),
        ({"model": "m", "input": "x", "tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"model": "m", "input": "x", "tools": [{"type": "mcp", "server_url": "http://x"}]}, "tools[0].type"),
        ({"model": "m", "input": "x", "tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"model": "m", "input": "x", "max_tool_calls": 3}, "max_tool_calls"),
        ({"model": "m", "input": "x", "prompt": {"id": "p"}}, "prompt"),
        ({"model": "m", "input": [{"type": "computer_call"}]}, "input[0].type"),
        ({"model": "m", "input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].type"),
        ({"model": "m", "input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"model": "m", "input": "x", "temperature": 9}, "temperature"),
        ({"model": "m", "input": "x", "metadata": {"k": "v" * 513}}, None),
        ({"model": "m", "input": "x", "background": True, "store": False}, "background"),
        ({"model": "m", "input": "x", "nonsense": 1}, "nonsense"),
        ({"model": "m", "input": "x", "text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_its_name(
    house: House, body: dict[str, Any], param: str | None
) -> None:
    async with house.plain() as client:
        answer = await client.post("/v1/responses", json=body)
    assert answer.status_code == 400, answer.text
    assert param is None or answer.json()["error"]["param"] == param
    assert house.door.asked == []


async def test_a_gateways_refusal_names_the_parameter_as_it_is_called_here(house: House) -> None:
    said = error_body(400, "'messages[0].content' is too long", "messages[0].content", "invalid_value")
    house.door.refuses = [RefusedError(400, said)]
    with pytest.raises(openai.BadRequestError) as refused:
        await house.client().responses.create(model="m", input="x", stream=True)
    assert refused.value.param == "input"
    house.door.refuses = [DoorError("away")]
    with pytest.raises(openai.InternalServerError) as away:
        await house.client().responses.create(model="m", input="x")
    assert (away.value.status_code, away.value.response.headers["retry-after"]) == (503, "2")


async def test_truncation_leaves_out_what_came_first(house: House) -> None:
    said = error_body(400, "too long", "messages", "context_length_exceeded")
    house.door.refuses = [RefusedError(400, said), RefusedError(400, said)]
    turns: Any = [{"role": "user", "content": f"{number}"} for number in range(8)]
    await house.client().responses.create(model="m", input=turns, truncation="auto")
    assert [len(body["messages"]) for body in house.door.bodies] == [8, 4, 2]


async def test_who_goes_in_the_middle_leaves_exactly_what_was_sent(house: House, door: Gateways) -> None:
    """An ASGI client that disconnects when it has three words."""
    door.held = 4
    sent: list[bytes] = []
    gone = asyncio.Event()

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))
        if b'" three"' in sent[-1]:
            gone.set()

    body = json.dumps({"model": "m", "input": "Count.", "stream": True}).encode()
    heard = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        for message in heard:
            return message
        await gone.wait()
        return {"type": "http.disconnect"}

    async with house.plain() as client:
        header = client.headers["x-cordee-caller"]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/v1/responses",
        "raw_path": b"/v1/responses", "query_string": b"", "headers": [(b"x-cordee-caller", header.encode())],
        "scheme": "http", "server": ("chats", 80), "client": None, "root_path": "",
    }  # fmt: skip
    await house.app(scope, receive, send)
    first = next(line for line in sent[1].split(b"\n") if line.startswith(b"data: "))
    response_id = json.loads(first[6:])["response"]["id"]
    stored = await house.client().responses.retrieve(response_id)
    assert (stored.status, stored.output_text) == ("cancelled", "One two three")
    assert stored.output[0].to_dict()["status"] == "incomplete"


async def test_in_the_background_it_is_queued_made_followed_and_told_of(house: House, door: Gateways) -> None:
    client = house.client()
    door.held = 3
    made = await client.responses.create(model="m", input="Count.", background=True)
    assert made.status == "queued"

    async def is_running() -> bool:
        return (await client.responses.retrieve(made.id)).status == "in_progress"

    await soon(is_running)
    following = asyncio.create_task(client.responses.retrieve(made.id, stream=True))  # it is handed over whole here
    door.go.set()
    events = [event async for event in await following]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    assert events[1].type == "response.queued"
    assert events[-1].type == "response.completed"
    rest = [event async for event in await client.responses.retrieve(made.id, stream=True, starting_after=4)]
    assert [event.to_dict() for event in rest] == [event.to_dict() for event in events[5:]]
    assert (await client.responses.retrieve(made.id)).output_text == SAID
    assert door.asked[0][1].key == made.id
    assert door.asked[0][1].priority == "standard"

    async def is_told() -> bool:
        return any(event.type == "cordee.chats.response.completed" for event in house.events)

    await soon(is_told)


async def test_one_in_the_background_is_cancelled_and_its_stream_ends(house: House, door: Gateways) -> None:
    client = house.client()
    door.held = 3
    made = await client.responses.create(model="m", input="Count.", background=True)
    following = asyncio.create_task(client.responses.retrieve(made.id, stream=True))

    async def has_said_something() -> bool:
        async with house.database.reading() as on:
            return len(await runs.stored_events(on, made.id, -1, 100)) > 5

    await soon(has_said_something)
    cancelled = await client.responses.cancel(made.id)
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "One two")
    events = [event async for event in await following]
    assert events[-1].type == "response.incomplete"
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (await client.responses.cancel(made.id)).status == "cancelled"
    response_id = made.id

    async def has_stopped() -> bool:
        return door.cancelled == 1

    await soon(has_stopped)
    with pytest.raises(openai.NotFoundError):
        await house.client(EVE).responses.cancel(response_id)


async def test_what_a_gateway_cannot_do_now_is_asked_again_and_what_it_refuses_fails(
    house: House, door: Gateways
) -> None:
    client = house.client()
    door.refuses = [RefusedError(503, b"", 0.01), RefusedError(400, error_body(400, "no such thing", "messages"))]
    made = await client.responses.create(model="m", input="Count.", background=True)

    async def is_over() -> bool:
        return (await client.responses.retrieve(made.id)).status == "failed"

    await soon(is_over)
    found = await client.responses.retrieve(made.id)
    assert found.error is not None
    assert (found.error.code, found.error.message) == ("invalid_prompt", "no such thing")


async def test_a_request_without_a_vouched_caller_or_scope_is_refused(house: House) -> None:
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(house.app), base_url="http://chats") as client:
        assert (await client.post("/v1/responses", json={"model": "m", "input": "x"})).status_code == 401
    reader = type(EVE)("tenant_a", "key", "user_ada", frozenset({"chats.read"}))
    with pytest.raises(openai.PermissionDeniedError):
        await house.client(reader).responses.create(model="m", input="x")
