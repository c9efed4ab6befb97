"""What comes out of a parser does not depend on how its text was cut, and nothing that a model said is lost."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.wire.tool_calls import CallParser
from cordee.wire.tool_families import HERMES, JSON, LLAMA, MISTRAL, Family, family_of

NAMES = frozenset({"f", "get_weather"})


class Heard:
    """What one parser said."""

    def __init__(self, family: Family, calls_max: int = 128, *, is_opened: bool = False) -> None:
        self.content = ""
        self.calls: list[list[str]] = []
        self.pieces = 0
        self.parser = CallParser(
            family, NAMES, self._say, lambda name: self.calls.append([name, ""]), self._argue, calls_max=calls_max,
            is_opened=is_opened,
        )  # fmt: skip

    def _say(self, text: str) -> None:
        assert text, "nothing is not said"
        self.content += text

    def _argue(self, text: str) -> None:
        self.calls[-1][1] += text
        self.pieces += 1

    def all(self, *pieces: str) -> Heard:
        for piece in pieces:
            self.parser.push(piece)
        self.parser.end()
        return self


def heard(family: Family, text: str, **more: Any) -> tuple[str, list[tuple[str, str]]]:
    one = Heard(family, **more).all(text)
    letters = Heard(family, **more).all(*text)
    assert (one.content, one.calls) == (letters.content, letters.calls), "it depends on how the text was cut"
    return one.content, [(name, arguments) for name, arguments in one.calls]


CALL = '{"name": "f", "arguments": {"a": 1}}'
CALLS = [
    (HERMES, f"<tool_call>\n{CALL}\n</tool_call>", "", [("f", '{"a": 1}')]),
    (HERMES, f"I look.\n\n<tool_call>{CALL}</tool_call>", "I look.", [("f", '{"a": 1}')]),
    (HERMES, f"<tool_call>\n{CALL}\n</tool_call>\n<tool_call>\n{CALL}\n</tool_call>", "", [("f", '{"a": 1}')] * 2),
    (HERMES, f"<tool_call>{CALL}</tool_call> and then", "and then", [("f", '{"a": 1}')]),
    (HERMES, '<tool_call>{"arguments": {"a": "}</tool_call>"}, "name": "f"}</tool_call>', "", [("f", '{"a": "}</tool_call>"}')]),
    (HERMES, '<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', "", [("f", '{"a": 1}')]),
    (HERMES, '<tool_call>{"name": "f"}</tool_call>', "", [("f", "{}")]),
    (HERMES, '<tool_call>{"name": "f", "arguments": null}</tool_call>', "", [("f", "{}")]),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"s": "\\"}{\\\\"}}</tool_call>', "", [("f", '{"s": "\\"}{\\\\"}')]),
    (HERMES, '<tool_call>{"type":"function","function":{"name":"f","parameters":{}}}</tool_call>', "", [("f", "{}")]),
    (HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1}, "id": "x"}\n</tool_call>', "", [("f", '{"a": 1}')]),
    (MISTRAL, f"[TOOL_CALLS][{CALL}, {CALL}]", "", [("f", '{"a": 1}')] * 2),
    (MISTRAL, f"[TOOL_CALLS] [{CALL}]", "", [("f", '{"a": 1}')]),
    (LLAMA, '{"name": "f", "parameters": {"a": 1}}', "", [("f", '{"a": 1}')]),
    (
        LLAMA, '<|python_tag|>{"name": "f", "parameters": {}}; {"name": "get_weather", "parameters": {}}', "",
        [("f", "{}"), ("get_weather", "{}")],
    ),
    (JSON, f"\n[{CALL},\n {CALL}]", "", [("f", '{"a": 1}')] * 2),
    (JSON, f"{CALL}\nThat is all.", "That is all.", [("f", '{"a": 1}')]),
]  # fmt: skip


@pytest.mark.parametrize(("family", "text", "content", "calls"), CALLS)
def test_calls_are_found(family, text, content, calls):
    assert heard(family, text) == (content, calls)
    assert all(json.loads(arguments) is not None for _, arguments in calls)


NO_CALLS = [
    (HERMES, "a < b <tool <tool_cal"), (HERMES, "<tool_call>print(1)</tool_call>"), (HERMES, "<tool_call>"),
    (HERMES, '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>'), (HERMES, '<tool_call>{"name": "f", "argu'),
    (HERMES, '<tool_call>{"name": "f" </tool_call>'), (HERMES, '<tool_call>{"name": ["f"], "arguments": {}}</tool_call>'),
    (HERMES, '<tool_call>{"name": "f", "arguments": [1]}</tool_call>'), (HERMES, "  text with blanks \n\n at its end  \n"),
    (HERMES, CALL), (MISTRAL, "[TOOL_CALLS]no"), (MISTRAL, "[TOOL_CALLS][1]"), (MISTRAL, "[1, 2]"), (LLAMA, '{"answer": 42}'),
    (LLAMA, '  {"name": "Bob", "age": 3}'), (LLAMA, "<|python_tag|>print(1)"), (LLAMA, "<|python"), (JSON, "[1, 2, 3]"), (JSON, "{"),
    (JSON, "Hello {"), (JSON, f"Hello {CALL}"), (JSON, "[]"), (JSON, '{"name": "f", "arguments": "no JSON"}'),
]  # fmt: skip


@pytest.mark.parametrize(("family", "text"), NO_CALLS)
def test_what_is_no_call_is_content_to_the_last_character(family, text):
    assert heard(family, text) == (text, [])


def test_arguments_leave_as_they_come():
    parser = Heard(HERMES)
    parser.parser.push('<tool_call>\n{"name": "f", "arguments": {"city": "Par')
    assert parser.calls == [["f", '{"city": "Par']]
    parser.parser.push("is")
    assert parser.calls == [["f", '{"city": "Paris']]
    assert parser.pieces == 2


def test_a_call_that_breaks_off_keeps_what_has_left_and_the_rest_is_content():
    assert heard(HERMES, '<tool_call>{"name": "f", "arguments": {"a": 1</tool_call> oh') == ("oh", [("f", '{"a": 1')])
    assert heard(HERMES, '<tool_call>{"name": "f", "arguments": {"a": "b') == ("", [("f", '{"a": "b')])


def test_no_more_calls_come_out_than_may():
    two = f"<tool_call>{CALL}</tool_call>\n<tool_call>{CALL}</tool_call>"
    assert heard(HERMES, two, calls_max=1) == ("", [("f", '{"a": 1}')])
    assert heard(MISTRAL, f"[TOOL_CALLS][{CALL}, {CALL}]", calls_max=1) == ("", [("f", '{"a": 1}')])
    assert heard(JSON, f"{CALL}\n{CALL}", calls_max=1) == ("", [("f", '{"a": 1}')])


def test_a_mark_may_stand_in_the_prompt():
    assert heard(MISTRAL, f"[{CALL}]", is_opened=True) == ("", [("f", '{"a": 1}')])


WORDS = [
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "<|python_tag|>", '{"name": "f", ', '"arguments": ', '"parameters": ', '{"a": 1}',
    '{"s": "x\\"', '"}', "}", "{", "[", "]", ",", ";", " ", "\n", "text", '"', "\\", "<", "f", '"name": "no"',
]  # fmt: skip


@given(
    st.sampled_from([HERMES, MISTRAL, LLAMA, JSON]), st.lists(st.sampled_from(WORDS), max_size=14),
    st.lists(st.integers(0, 200), max_size=6), st.sampled_from([1, 128]),
)  # fmt: skip
def test_the_same_comes_out_however_the_text_is_cut(family, words, cuts, calls_max):
    text = "".join(words)
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[a:b] for a, b in pairwise(places)]
    whole, cut = Heard(family, calls_max).all(text), Heard(family, calls_max).all(*pieces)
    letters = Heard(family, calls_max).all(*text)
    assert (whole.content, whole.calls) == (cut.content, cut.calls) == (letters.content, letters.calls)
    if not whole.calls:
        assert whole.content == text


@pytest.mark.parametrize(
    ("template", "family"),
    [
        ("{% if tools %}<tool_call>{% endif %}", HERMES), ("[TOOL_CALLS]", MISTRAL), ("<|python_tag|>", LLAMA),
        ("""{{- '"parameters": ' }}""", LLAMA), ("{{ tools }}", JSON),
    ],
)  # fmt: skip
def test_a_template_tells_its_family(template, family):
    assert family_of(template) is family
