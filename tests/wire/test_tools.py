from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from cordee.wire.errors import Invalid
from cordee.wire.requests import Message
from cordee.wire.tool_turns import Turns
from cordee.wire.tools import Mode, Offer, offer


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def offered(tools: Any = None, choice: Any = None, *, is_parallel: bool = True) -> Offer | None:
    raw = [UNSET if given is None else Raw(msgspec.json.encode(given)) for given in (tools, choice)]
    return offer(raw[0], raw[1], is_parallel=is_parallel)


TWO = [
    function("f"),
    function("g", parameters={"type": "object", "properties": {"a": {"type": "integer"}}}, strict=True),
]
F = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("choice", "shown", "names", "mode", "is_parallel"),
    [
        (None, "fg", "fg", Mode.AUTO, True), ("auto", "fg", "fg", Mode.AUTO, True), ("required", "fg", "fg", Mode.REQUIRED, True),
        (F, "fg", "f", Mode.REQUIRED, False),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [F]}}, "f", "f", Mode.AUTO, True),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [F]}}, "f", "f", Mode.REQUIRED, True),
    ],
)  # fmt: skip
def test_who_may_be_called(choice, shown, names, mode, is_parallel):
    found = offered(TWO, choice)
    assert found is not None
    assert "".join(tool.name for tool in found.tools) == shown
    assert found.names == set(names)
    assert (found.mode, found.is_parallel) == (mode, is_parallel)


@pytest.mark.parametrize(
    ("tools", "choice"), [(None, None), ([], None), ([], "auto"), (None, "none"), (TWO, "none"), (None, "auto")]
)
def test_where_nothing_may_be_called(tools, choice):
    assert offered(tools, choice) is None


def test_a_function_that_says_nothing_of_its_arguments_has_none():
    found = offered([function("f")])
    assert found is not None
    assert found.tools[0].fields["function"]["parameters"] == {
        "type": "object",
        "properties": {},
        "additionalProperties": False,
    }


DEEP: dict[str, Any] = {"type": "object"}
for _ in range(70):
    DEEP = {"type": "object", "properties": {"a": DEEP}}


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ([function("f x")], None, "tools[0].function.name"), ([function("")], None, "tools[0].function.name"),
        ([function("f" * 65)], None, "tools[0].function.name"), ([function("f"), function("f")], None, "tools[1].function.name"),
        ([function("f", parameters=[1])], None, "tools[0].function.parameters"),
        ([function("f", parameters={"type": "string"})], None, "tools[0].function.parameters"),
        ([function("f", parameters=DEEP)], None, "tools[0].function.parameters"),
        ([function("f", surprise=1)], None, "tools[0].function.surprise"), ([{"type": "custom", "custom": {}}], None, "tools[0].type"),
        ([function("f", description=1)], None, "tools[0].function.description"), ({"a": 1}, None, "tools"), ([1], None, "tools[0]"),
        ([function(f"f{n}") for n in range(129)], None, "tools"), (TWO, "sometimes", "tool_choice"), (None, "required", "tool_choice"),
        ([], F, "tool_choice"), (TWO, {"type": "function", "function": {"name": "h"}}, "tool_choice.function.name"),
        (TWO, {"type": "function"}, "tool_choice.function"), (TWO, {"type": "mcp"}, "tool_choice.type"),
        (TWO, {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, "tool_choice.allowed_tools.tools"),
        (
            TWO, {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [F, function("h")]}},
            "tool_choice.allowed_tools.tools[1].function.name",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_offered_is_refused_by_name(tools, choice, param):
    with pytest.raises(Invalid) as caught:
        offered(tools, choice)
    assert caught.value.param == param
    assert caught.value.status == 400


def test_who_asks_for_an_unknown_tool_is_told_which_there_are():
    with pytest.raises(Invalid, match="'h', which is not among the tools: f, g"):
        offered(TWO, {"type": "function", "function": {"name": "h"}})


def call(id: Any = "call_1", name: Any = "f", arguments: Any = '{"a": 1}') -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def called(*calls: Any) -> Message:
    return Message("assistant", None, tool_calls=list(calls))


def test_calls_and_results_are_as_templates_want_them():
    turns = Turns(0)
    made = turns.fields(called(call()), 1)
    assert made == {
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]
    }
    assert turns.fields(Message("tool", "3", tool_call_id="call_1"), 2) == {"tool_call_id": "call_1", "name": "f"}
    assert turns.fields(called(call("2", arguments=" ")), 3)["tool_calls"][0]["function"]["arguments"] == {}


def test_arguments_stay_text_where_a_template_wants_it():
    made = Turns(0, as_text=True).fields(called(call(arguments='{"a":  1}')), 1)
    assert made["tool_calls"][0]["function"]["arguments"] == '{"a":  1}'


def test_ids_can_be_shortened_and_still_belong_together():
    turns = Turns(9)
    made = turns.fields(called(call(), call("abcdef123")), 0)["tool_calls"]
    assert [len(one["id"]) for one in made] == [9, 9]
    assert made[1]["id"] == "abcdef123"
    assert turns.fields(Message("tool", "x", tool_call_id="call_1"), 1)["tool_call_id"] == made[0]["id"]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        (Message("tool", "x"), "messages[3].tool_call_id"), (Message("tool", "x", tool_call_id="call_2"), "messages[3].tool_call_id"),
        (called({}), "messages[3].tool_calls[0].id"), (called(call(id="")), "messages[3].tool_calls[0].id"),
        (called(call(name=None)), "messages[3].tool_calls[0].function.name"),
        (called(call(arguments={"a": 1})), "messages[3].tool_calls[0].function.arguments"),
        (called(call(), call(arguments="{")), "messages[3].tool_calls[1].function.arguments"),
        (called(call(arguments="[1]")), "messages[3].tool_calls[0].function.arguments"),
        (called(call(arguments='{"a":' * 90 + "1" + "}" * 90)), "messages[3].tool_calls[0].function.arguments"),
        (Message("user", "x", tool_calls=[call()]), "messages[3].tool_calls"), (called(*[call()] * 129), "messages[3].tool_calls"),
    ],
)  # fmt: skip
def test_a_turn_that_cannot_be_meant_is_refused_by_name(message, param):
    turns = Turns(0)
    turns.fields(called(call()), 0)
    with pytest.raises(Invalid) as caught:
        turns.fields(message, 3)
    assert caught.value.param == param
