"""Responses of the default model through a gateway and a services process: structured outputs and tools, by the official client."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, ConfigDict, Field

from tests.engine.real import real_library, real_model
from tests.gguf_template import with_template
from tests.ports import free_port
from tests.rig import Rig
from tests.services.chats.responses.test_processes import Installation
from tests.wire.templates import HERMES

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(180)]
MODEL = "caller"
CITY = {
    "type": "object", "properties": {"city": {"type": "string", "maxLength": 12}}, "required": ["city"],
    "additionalProperties": False,
}  # fmt: skip
TOOL: Any = {
    "type": "function",
    "name": "get_weather",
    "description": "Weather of a city.",
    "parameters": CITY,
    "strict": True,
}
ASKED = "How is the weather in Paris?"


class Player(BaseModel):
    """What is asked for: an object that the model's grammar keeps short."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=10)
    points: int = Field(ge=0, le=99)
    team: Literal["red", "blue"]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    real_library()
    directory: Path = tmp_path_factory.mktemp("responses")
    model = with_template(real_model(), directory / f"{MODEL}.gguf", HERMES)
    settings = {"CORDEE_ENGINE_SLOTS": "2", "CORDEE_ENGINE_CONTEXT": "1024", "CORDEE_ENGINE_THREADS": "1"}
    socket = directory / "s0.sock"
    with contextlib.ExitStack() as stack:
        rig = stack.enter_context(
            Rig(
                directory, model=str(model), workers=1, environment=settings, gateway_flags=("--services", f"unix:{socket}"),
                ports=[free_port()],
            )
        )  # fmt: skip
        made = Installation(directory, rig, [socket])
        stack.callback(made.end)
        made.wait_ready()
        yield made.client()


@pytest.fixture(scope="module")
def model(client: openai.OpenAI) -> str:
    return client.models.list().data[0].id


def test_a_parsed_response_is_an_object_of_its_class(client: openai.OpenAI, model: str) -> None:
    parsed = client.responses.parse(model=model, input="A player, as JSON.", text_format=Player)
    assert isinstance(parsed.output_parsed, Player)
    assert Player.model_validate_json(parsed.output_text) == parsed.output_parsed
    stored = client.responses.retrieve(parsed.id)
    assert (stored.status, stored.output_text) == ("completed", parsed.output_text)
    assert stored.text is not None
    assert stored.text.format is not None
    assert stored.text.format.type == "json_schema"


def test_a_tool_is_called_by_its_schema_and_its_result_goes_on(client: openai.OpenAI, model: str) -> None:
    called = client.responses.create(
        model=model, input=ASKED, tools=[TOOL], tool_choice="required", parallel_tool_calls=False
    )
    [call] = called.output
    assert call.type == "function_call"
    assert (call.name, list(json.loads(call.arguments))) == ("get_weather", ["city"])
    answered = client.responses.create(
        model=model, previous_response_id=called.id, max_output_tokens=16,
        input=[{"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}],
    )  # fmt: skip
    assert answered.status in ("completed", "incomplete")
    assert "function_call" not in [item.type for item in answered.output]
    kept = client.responses.input_items.list(answered.id).data
    assert kept[0].type == "function_call_output"


def test_a_streamed_call_of_a_tool_is_the_sum_of_its_pieces(client: openai.OpenAI, model: str) -> None:
    with client.responses.stream(
        model=model, input=ASKED, tools=[TOOL], tool_choice="required", parallel_tool_calls=False
    ) as stream:
        events = list(stream)
        final = stream.get_final_response()
    pieces = "".join(event.delta for event in events if event.type == "response.function_call_arguments.delta")
    calls = [item for item in final.output if item.type == "function_call"]
    assert calls
    assert pieces == "".join(call.arguments for call in calls)
    assert all(list(json.loads(call.arguments)) == ["city"] for call in calls)
