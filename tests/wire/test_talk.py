from __future__ import annotations

from array import array
from typing import Any

import msgspec
import pytest

from cordee.wire import requests
from cordee.wire.errors import Invalid
from cordee.wire.grammar import asked
from cordee.wire.reasoning import THINK
from cordee.wire.talk import Talk, talk
from cordee.wire.template import Template
from tests.wire.templates import CHATML, HERMES, MISTRAL, THINKING
from tests.wire.test_template import MARKER, Fake

TOOLS = [{"type": "function", "function": {"name": "f"}}]
STRICT = [{"type": "function", "function": {"name": "f", "strict": True}}]
JSON_OBJECT = {"type": "json_object"}


def spoken(source: str, *, constrains: bool = True, **given: Any) -> Talk | None:
    body = requests.CHAT.decode(
        msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "hi"}], **given})
    )
    answer = asked(body.response_format, body.structured_outputs)
    return talk(body, Template(Fake(source)), answer, constrains=constrains, model="m")


def prompted(source: str, **given: Any) -> tuple[str, Talk]:
    made = spoken(source, **given)
    assert made is not None
    template = Template(Fake(source))
    text = template.render([{"role": "user", "content": "hi"}], MARKER, made.tools, made.options)
    return made.put(text), made


def test_an_ordinary_chat_needs_nothing_of_this():
    assert spoken(CHATML) is None
    assert spoken(HERMES) is None


def test_tools_are_told_and_their_names_are_listened_for():
    prompt, made = prompted(HERMES, tools=TOOLS)
    assert "# Tools" in prompt
    assert made.speech.names == {"f"}
    assert made.asked is None, "the model decides"
    assert made.has_calls


def test_who_chooses_none_is_told_of_no_tools():
    prompt, made = prompted(HERMES, tools=TOOLS, tool_choice="none")
    assert "# Tools" not in prompt
    assert not made.has_calls


@pytest.mark.parametrize(
    "given",
    [
        {"tools": TOOLS, "tool_choice": "required"}, {"tools": STRICT}, {"tools": TOOLS, "parallel_tool_calls": False},
        {"tools": TOOLS, "response_format": JSON_OBJECT},
    ],
)  # fmt: skip
def test_answers_that_are_held_to_a_grammar(given):
    made = spoken(HERMES, **given)
    assert made is not None
    assert made.asked is not None
    assert made.asked.param == "tools"
    assert made.asked.parts is not None
    assert made.asked.parts()[0].param == "tools[0].function.parameters"
    assert len(made.asked.parts()) == (2 if "response_format" in given else 1)


def test_a_mark_that_is_a_control_token_stands_in_the_prompt_of_who_must_call():
    prompt, made = prompted(MISTRAL, tools=TOOLS, tool_choice="required")
    assert prompt.endswith("[/INST][TOOL_CALLS]")
    assert made.speech.is_calling
    prompt, made = prompted(MISTRAL, tools=TOOLS)
    assert prompt.endswith("[/INST]")
    assert not made.speech.is_calling


def test_a_template_may_open_the_reasoning():
    prompt, made = prompted(THINKING)
    assert prompt.endswith("<think>\n")
    assert (made.speech.marks, made.speech.is_thinking) == (THINK, True)


@pytest.mark.parametrize(
    "given",
    [{"reasoning_effort": "none"}, {"response_format": JSON_OBJECT}, {"tools": TOOLS, "tool_choice": "required"}],
)
def test_who_may_not_reason_finds_it_closed(given):
    prompt, made = prompted(THINKING, **given)
    assert prompt.endswith("<think>\n\n</think>\n\n")
    assert not made.speech.is_thinking
    prompt, made = prompted(HERMES + "{% if add_generation_prompt %}<think>\n{% endif %}{# </think> #}", **given)
    assert prompt.endswith("<think>\n\n</think>\n\n"), "also where the template has no switch"
    assert not made.speech.is_thinking


def test_a_model_that_opens_its_reasoning_itself_is_kept_from_it():
    source = CHATML + "{# <think></think> #}"
    assert prompted(source)[0].endswith("assistant\n")
    assert prompted(source, reasoning_effort="none")[0].endswith("assistant\n<think>\n\n</think>\n\n")


def test_a_templates_own_options_can_be_set():
    prompt, _ = prompted(THINKING, chat_template_kwargs={"enable_thinking": False})
    assert prompt.endswith("</think>\n\n")
    assert prompted("{{ reasoning_effort }}", reasoning_effort="high")[0] == "high"


@pytest.mark.parametrize(
    ("source", "given", "param", "code"),
    [
        (CHATML, {"tools": TOOLS}, "tools", "unsupported_parameter"),
        (HERMES, {"reasoning_effort": "huge"}, "reasoning_effort", "invalid_value"),
        (HERMES, {"chat_template_kwargs": {"messages": "x"}}, "chat_template_kwargs.messages", "unknown_parameter"),
        (HERMES, {"chat_template_kwargs": {"tools": "x"}}, "chat_template_kwargs.tools", "unknown_parameter"),
        (THINKING, {"chat_template_kwargs": {"enable_thinking": [1]}}, "chat_template_kwargs", "invalid_value"),
        (THINKING, {"chat_template_kwargs": {str(n): 1 for n in range(17)}}, "chat_template_kwargs", "invalid_value"),
        (THINKING, {"chat_template_kwargs": 1}, "chat_template_kwargs", "invalid_value"),
        (HERMES, {"tools": TOOLS, "response_format": {"type": "regex", "pattern": "a"}}, "response_format", None),
        (HERMES, {"tools": TOOLS, "tool_choice": "required", "constrains": False}, "tool_choice", "unsupported_parameter"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(source, given, param, code):
    with pytest.raises(Invalid) as caught:
        spoken(source, **given)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_the_prompt_of_a_calling_model_ends_with_a_control_token():
    prompt, _ = prompted(MISTRAL, tools=TOOLS, tool_choice="required")
    ids: array[int] = Template(Fake(MISTRAL)).tokens(prompt, MARKER)
    assert ids[-1] in Template(Fake(MISTRAL)).spelled
