"""Tools and reasoning with real processes, OpenAI's own client and the default model, which is given a template that knows of tools."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field
from websockets.asyncio.client import connect

from tests.engine.real import real_library, real_model
from tests.gguf_template import with_template
from tests.rig import HEADERS, KEY, Rig, until
from tests.wire.templates import CHATML, HERMES

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(180)]

MODEL = "caller"
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Weather of a city.", "parameters": CITY, "strict": True},
}
TIME: Any = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {
            "type": "object",
            "properties": {"zone": {"enum": ["UTC", "CET"]}},
            "required": ["zone"],
            "additionalProperties": False,
        },
    },
}
ASKED: Any = [{"role": "user", "content": "How is the weather in Paris?"}]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    real_library()
    directory: Path = tmp_path_factory.mktemp("tools")
    model = with_template(real_model(), directory / f"{MODEL}.gguf", HERMES)
    settings = {"CORDEE_ENGINE_SLOTS": "4", "CORDEE_ENGINE_CONTEXT": "1024", "CORDEE_ENGINE_THREADS": "1"}
    with Rig(directory, model=str(model), workers=2, environment=settings, kind="mobile") as rig:
        yield rig


@pytest.fixture
def client(rig: Rig) -> OpenAI:
    return OpenAI(base_url=rig.url, api_key=KEY, max_retries=0)


def model_of(client: OpenAI) -> str:
    return client.models.list().data[0].id


def test_who_must_call_calls_with_arguments_of_the_schema(client: OpenAI) -> None:
    model = model_of(client)
    for seed in range(3):
        answer = client.chat.completions.create(
            model=model, messages=ASKED, tools=[TOOL, TIME], tool_choice="required", parallel_tool_calls=False, seed=seed,
        )  # fmt: skip
        choice = answer.choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.content is None
        (call,) = choice.message.tool_calls or []
        assert call.type == "function"
        arguments = json.loads(call.function.arguments)
        assert (
            set(arguments) == {"city"} if call.function.name == "get_weather" else arguments["zone"] in ("UTC", "CET")
        )


def test_a_named_tool_is_the_one_that_is_called_and_parsed(client: OpenAI) -> None:
    class Weather(BaseModel):
        city: Annotated[str, Field(max_length=12)]

    other: Any = {**TIME, "function": {**TIME["function"], "strict": True}}
    answer = client.chat.completions.parse(
        model=model_of(client), messages=ASKED, tools=[openai.pydantic_function_tool(Weather, name="get_weather"), other],
        tool_choice={"type": "function", "function": {"name": "get_weather"}}, max_tokens=200, seed=1,
    )  # fmt: skip
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Weather)


def test_the_stream_says_what_the_whole_answer_says(client: OpenAI) -> None:
    given: Any = {
        "model": model_of(client),
        "messages": ASKED,
        "tools": [TOOL],
        "tool_choice": "required",
        "seed": 5,
        "max_tokens": 300,
    }
    whole = client.chat.completions.create(**given).choices[0]
    with client.chat.completions.stream(**given) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_completion().choices[0]

    def told(choice: Any) -> list[tuple[str, str]]:
        return [(call.function.name, call.function.arguments) for call in choice.message.tool_calls]

    assert told(streamed) == told(whole)
    assert streamed.finish_reason == whole.finish_reason


def test_a_conversation_goes_on_with_the_results(client: OpenAI) -> None:
    model = model_of(client)
    first = client.chat.completions.create(
        model=model, messages=ASKED, tools=[TOOL], tool_choice="required", parallel_tool_calls=False, seed=2
    ).choices[0].message  # fmt: skip
    assert first.tool_calls is not None
    results: Any = [
        {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 20 degrees."} for call in first.tool_calls
    ]
    turns: Any = [*ASKED, first, *results]
    answer = client.chat.completions.create(
        model=model, messages=turns, tools=[TOOL], tool_choice="none", max_tokens=20
    )
    assert answer.choices[0].message.content
    assert answer.choices[0].message.tool_calls is None


def test_a_stream_with_calls_is_resumed_with_the_same_calls(rig: Rig, client: OpenAI) -> None:
    body = {
        "model": model_of(client),
        "messages": ASKED,
        "tools": [TOOL],
        "tool_choice": "required",
        "seed": 3,
        "max_tokens": 120,
    }

    def calls(events: list[dict[str, Any]]) -> list[list[str]]:
        found: list[list[str]] = []
        for call in (
            call for event in events for one in event["choices"] for call in one["delta"].get("tool_calls", ())
        ):
            if "id" in call:
                found.append([call["id"], call["function"]["name"], ""])
            found[call["index"]][2] += call["function"]["arguments"]
        return found

    def stream(headers: dict[str, str], asked: dict[str, Any] | None) -> list[tuple[str, dict[str, Any]]]:
        """Events with their ids."""
        found, id = [], ""
        with httpx.stream(
            "POST", f"{rig.url}/chat/completions", headers={**HEADERS, **headers}, json=asked, timeout=60
        ) as answer:
            assert answer.status_code == 200, answer.read()
            for line in answer.iter_lines():
                id = line.removeprefix("id: ") if line.startswith("id: ") else id
                if line.startswith("data: {"):
                    found.append((id, json.loads(line.removeprefix("data: "))))
        return found

    events = stream({"X-Cordee-Resumable": "1"}, {**body, "stream": True})
    whole = calls([event for _, event in events])
    assert whole
    for place in range(1, len(events) - 1):
        rest = stream({"Last-Event-ID": events[place - 1][0]}, None)
        assert calls([event for _, event in [*events[:place], *rest]]) == whole


def test_a_websocket_hears_of_calls(rig: Rig, client: OpenAI) -> None:
    request = {
        "model": model_of(client),
        "messages": ASKED,
        "tools": [TOOL],
        "tool_choice": "required",
        "seed": 3,
        "max_tokens": 120,
    }

    async def run() -> list[dict[str, Any]]:
        url = f"ws://127.0.0.1:{rig.ports[0]}/v1/realtime/chat"
        async with connect(url, additional_headers={"Authorization": HEADERS["Authorization"]}) as socket:
            await socket.send(json.dumps({"type": "call.create", "id": "a", "request": request}))
            said: list[dict[str, Any]] = []
            while not said or said[-1]["type"] not in ("call.completed", "call.failed"):
                said.append(json.loads(await asyncio.wait_for(socket.recv(), 60)))
            return said

    said = asyncio.run(run())
    assert said[-1]["type"] == "call.completed", said[-1]
    pieces = [call for one in said for call in one.get("tool_calls", ())]
    assert pieces[0]["function"]["name"] == "get_weather"
    assert pieces[0]["id"].startswith("call_")


def test_a_model_without_a_place_for_tools_says_so(tmp_path: Path) -> None:
    """And an operator's own template is taken in the place of the model's, also by a gateway that runs."""
    model = with_template(real_model(), tmp_path / "plain.gguf", CHATML)
    (tmp_path / "mine.jinja").write_text(HERMES)
    settings = {"CORDEE_ENGINE_SLOTS": "2", "CORDEE_ENGINE_CONTEXT": "512", "CORDEE_ENGINE_THREADS": "1"}
    with Rig(tmp_path, model=str(model), workers=1, environment=settings) as rig:
        client = OpenAI(base_url=rig.url, api_key=KEY, max_retries=0)
        name = model_of(client)
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model=name, messages=ASKED, tools=[TOOL])
        assert (caught.value.param, caught.value.code) == ("tools", "unsupported_parameter")
        table = f'[models."{name}"]\nchat_template = "{tmp_path / "mine.jinja"}"\n'
        (tmp_path / "cordee.toml").write_text(table)
        rig.gateways[0].send_signal(signal.SIGHUP)
        until(lambda: " taken: models" in rig.log("gateway-1"), "the template to be taken")
        answer = client.chat.completions.create(
            model=name, messages=ASKED, tools=[TOOL], tool_choice="required", max_tokens=200, seed=1
        )
        assert (answer.choices[0].message.tool_calls or [])[0].type == "function"
