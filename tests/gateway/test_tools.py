"""Calls of tools and reasoning over a whole gateway, as OpenAI's own client sees them. The worker says what a model would."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel

from cordee.domain.call import Syntax
from cordee.gateway.prepare import Model
from cordee.wire.template import Template
from tests.gateway.doubles import KEY, Bytes, Gateway
from tests.wire.templates import HERMES, THINKING

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL: Any = {"type": "function", "function": {"name": "get_weather", "description": "Weather.", "parameters": CITY}}
STRICT: Any = {"type": "function", "function": {**TOOL["function"], "strict": True}}
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "%s"}}\n</tool_call>'
ASKED: Any = [{"role": "user", "content": "How is the weather in Zürich?"}]


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with Gateway() as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> OpenAI:
    speak(gateway, HERMES)
    return OpenAI(base_url=gateway.url, api_key=KEY, max_retries=0)


def speak(gateway: Gateway, source: str) -> None:
    gateway.call(lambda: gateway.calls.models.update(m=Model("m", Bytes(), Template(Bytes(), source))))


def test_a_call_is_a_call(gateway: Gateway, client: OpenAI) -> None:
    gateway.worker.text = "I look.\n" + CALL % "Zürich"
    answer = client.chat.completions.create(model="m", messages=ASKED, tools=[TOOL])
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I look.")
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": "Zürich"})
    work = gateway.worker.calls[-1].work
    assert work is not None
    assert work.grammar is None
    assert gateway.worker.calls[-1].local_only


def test_a_stream_of_calls_is_gathered_by_the_client(gateway: Gateway, client: OpenAI) -> None:
    gateway.worker.text = CALL % "Zürich" + "\n" + CALL % "Bern"
    with client.chat.completions.stream(model="m", messages=ASKED, tools=[STRICT]) as stream:
        kinds = [event.type for event in stream]
        answer = stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.done") == 2
    assert kinds.count("tool_calls.function.arguments.delta") > 4
    assert answer.choices[0].finish_reason == "tool_calls"
    calls = answer.choices[0].message.tool_calls or []
    assert [call.function.parsed_arguments for call in calls] == [{"city": "Zürich"}, {"city": "Bern"}]
    assert len({call.id for call in calls}) == 2


def test_an_answer_can_be_parsed(gateway: Gateway, client: OpenAI) -> None:
    class Weather(BaseModel):
        city: str

    gateway.worker.text = CALL % "Bern"
    answer = client.chat.completions.parse(
        model="m",
        messages=ASKED,
        tools=[openai.pydantic_function_tool(Weather, name="get_weather")],
        tool_choice="required",
    )
    calls = answer.choices[0].message.tool_calls or []
    assert calls[0].function.parsed_arguments == Weather(city="Bern")
    work = gateway.worker.calls[-1].work
    assert work is not None
    assert work.grammar is not None
    assert work.grammar.syntax is Syntax.LARK


def test_results_go_back_and_the_answer_is_text(gateway: Gateway, client: OpenAI) -> None:
    gateway.worker.text = CALL % "Bern"
    first = client.chat.completions.create(model="m", messages=ASKED, tools=[TOOL]).choices[0].message
    assert first.tool_calls is not None
    gateway.worker.text = "It rains."
    turns = [*ASKED, first, {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "rain"}]
    answer = client.chat.completions.create(model="m", messages=turns, tools=[TOOL])
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("It rains.", "stop")
    work = gateway.worker.calls[-1].work
    assert work is not None
    prompt = b"".join(map(Bytes().piece, work.prompt)).decode()
    assert '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bern"}}\n</tool_call>' in prompt
    assert "<tool_response>\nrain\n</tool_response>" in prompt


def test_every_choice_has_calls_of_its_own(gateway: Gateway, client: OpenAI) -> None:
    gateway.worker.text = CALL % "Bern"
    answer = client.chat.completions.create(model="m", messages=ASKED, tools=[TOOL], n=3)
    assert len({choice.message.tool_calls[0].id for choice in answer.choices if choice.message.tool_calls}) == 3


def test_reasoning_is_told_apart(gateway: Gateway, client: OpenAI) -> None:
    speak(gateway, THINKING)
    gateway.worker.text = "Hm.\n</think>\n\nFour."
    answer = client.chat.completions.create(model="m", messages=ASKED)
    message = answer.choices[0].message.model_dump()
    assert (message["content"], message["reasoning_content"]) == ("Four.", "Hm.")
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == len("Hm.\n</think>"), "a token a byte"
    stream = client.chat.completions.create(
        model="m", messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    events = [event.model_dump() for event in stream]
    deltas = [event["choices"][0]["delta"] for event in events if event["choices"]]
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "Hm."
    assert "".join(delta.get("content") or "" for delta in deltas) == "Four."
    assert events[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] == 12


def test_who_wants_no_reasoning_gets_none(gateway: Gateway, client: OpenAI) -> None:
    speak(gateway, THINKING)
    gateway.worker.text = "Four."
    answer = client.chat.completions.create(model="m", messages=ASKED, reasoning_effort="none")
    message = answer.choices[0].message.model_dump()
    assert message["content"] == "Four."
    assert "reasoning_content" not in message


def test_another_protocols_stop_string_ends_an_answer_with_calls_too(gateway: Gateway, client: OpenAI) -> None:
    gateway.worker.text = CALL % "Bern" + "\nAnd STOP here"
    answer = client.chat.completions.create(model="m", messages=ASKED, tools=[TOOL], stop="STOP")
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("And ", "tool_calls")


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "no"}}}, "tool_choice.function.name"),
        ({"messages": [*ASKED, {"role": "tool", "tool_call_id": "call_1", "content": "x"}]}, "messages[1].tool_call_id"),
        ({"tools": [TOOL] * 129}, "tools"), ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": {"name": "f"}}, "function_call"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_name(client: OpenAI, given: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "m", "messages": ASKED, **given})
    assert caught.value.param == param


def test_old_names_are_told_the_new_ones(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="use 'tools'"):
        client.chat.completions.create(model="m", messages=ASKED, functions=[{"name": "f"}])
