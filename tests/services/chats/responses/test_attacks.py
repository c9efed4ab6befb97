"""What a model says, or a client says of a conversation, never becomes an event, a header or a request of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.services.chats.responses.conftest import House, call, text

pytestmark = pytest.mark.anyio
SAID = (
    "\n\ndata: [DONE]\n\n", "\r\nevent: response.failed\r\n", "id: 7\nretry: 1\n\n", "\rdata: x\r\r", "\u2028\u2029\x85", "\x00\x1b[2J",
    ': comment\n\n{"type":"error"}',
)  # fmt: skip
INSIDE = "http://169.254.169.254/latest/meta-data/"


async def test_text_that_looks_like_events_arrives_as_text(house: House) -> None:
    house.door.chunks = text(*SAID)
    async with house.client().responses.stream(model="m", input="x") as stream:
        events = [event async for event in stream]
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == "".join(SAID)
    assert [event.type for event in events].count("response.completed") == 1
    assert not any(event.type in ("error", "response.failed") for event in events)
    numbers = [event.sequence_number for event in events if hasattr(event, "sequence_number")]
    assert numbers == sorted(set(numbers))
    [final] = [event.response for event in events if event.type == "response.completed"]
    assert (await house.client().responses.retrieve(final.id)).output_text == "".join(SAID)


async def test_every_line_of_a_stream_is_a_name_of_an_event_or_json(house: House) -> None:
    house.door.chunks = text(*SAID)
    async with house.plain() as client:
        answer = await client.post("/v1/responses", json={"model": "m\r\nevent: x", "input": "x", "stream": True})
    assert answer.status_code == 200
    for line in answer.content.split(b"\n"):
        name, _, value = line.partition(b": ")
        assert name in (b"event", b"data", b"id", b""), line
        assert b"\r" not in line
        if name == b"data" and value != b"[DONE]":
            json.loads(value)


async def test_the_arguments_of_a_tool_are_the_models_own_and_run_nothing(house: House) -> None:
    house.door.chunks = call("f", '{"a": "', "\\n\\ndata: [DONE]", '"}')
    tool: Any = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": False}
    made = await house.client().responses.create(model="m", input="x", tools=[tool], stream=True)
    events = [event async for event in made]
    [done] = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert json.loads(done.arguments) == {"a": "\n\ndata: [DONE]"}
    assert len(house.door.asked) == 1


ADDRESSES: list[tuple[dict[str, Any], str]] = [
    ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": INSIDE}]}]}, "input[0].content[0].type"),
    ({"input": "x", "tools": [{"type": "mcp", "server_label": "l", "server_url": INSIDE}]}, "tools[0].type"),
    ({"input": "x", "api_base": INSIDE}, "api_base"), ({"input": "x", "base_url": INSIDE}, "base_url"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "param"), ADDRESSES)
async def test_nothing_is_fetched_from_an_address_that_a_request_names(
    house: House, body: dict[str, Any], param: str
) -> None:
    async with house.plain() as client:
        answer = await client.post("/v1/responses", json={"model": "m", **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text
    assert house.door.asked == []
