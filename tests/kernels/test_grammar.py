"""What texts a grammar lets through, byte by byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llguidance import LLTokenizer

from cordee.domain.call import Grammar, Syntax
from cordee.kernels.grammar import MESSAGE_CHARS_MAX, GrammarError, byte_tokenizer, matcher
from cordee.kernels.grammar_trial import trial

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0, "maximum": 150}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def index() -> LLTokenizer:
    return byte_tokenizer()


def schema(what: Any) -> Grammar:
    return Grammar(Syntax.JSON_SCHEMA, json.dumps(what))


def accepts(index: LLTokenizer, grammar: Grammar, text: str) -> bool:
    data = list(text.encode())
    made = matcher(index, grammar)
    return made.try_consume_tokens(data) == len(data) and made.is_accepting()


@pytest.mark.parametrize(
    ("grammar", "yes", "no"),
    [
        (Grammar(Syntax.JSON_OBJECT, ""), ["{}", '{"a": [1, {"b": null}]}'], ["[]", "1", "{", '{"a"}']),
        (
            schema(PERSON),
            ['{"name":"A","age":7}', '{\n  "name": "é☃",\n  "age": 150\n}'],
            ["{}", '{"name":"A","age":151}'],
        ),
        (Grammar(Syntax.REGEX, r"(yes|no)[.!]?"), ["yes", "no!"], ["yess", "", "maybe"]),
        (Grammar(Syntax.LARK, 'start: "a" b*\nb: /[0-9]/'), ["a", "a123"], ["", "b"]),
        (Grammar(Syntax.LARK, 'root ::= "a" b*\nb ::= [0-9]'), ["a", "a123"], ["", "b"]),  # GBNF
    ],
)
def test_each_syntax_lets_through_its_own_words_only(
    index: LLTokenizer, grammar: Grammar, yes: list[str], no: list[str]
):
    for text in yes:
        assert accepts(index, grammar, text), text
    for text in no:
        assert not accepts(index, grammar, text), text


def test_blanks_between_the_parts_of_json_are_bounded(index: LLTokenizer):
    assert accepts(index, Grammar(Syntax.JSON_OBJECT, ""), "{" + " " * 64 + "}")
    assert not accepts(index, Grammar(Syntax.JSON_OBJECT, ""), "{" + " " * 65 + "}")
    assert not accepts(index, schema(PERSON), "{" + "\n" * 65 + '"name":"A","age":7}')


@pytest.mark.parametrize(
    ("grammar", "says"),
    [
        (schema({"type": "object", "not": {}}), "not"),
        (schema({"type": "foo"}), "foo"),
        (schema({"$ref": "#/nowhere"}), "nowhere"),
        (schema({"type": "integer", "minimum": 3, "maximum": 1}), "Unsatisfiable"),
        (schema({"enum": [f"value {i}" for i in range(100_000)]}), "too big"),
        (Grammar(Syntax.JSON_SCHEMA, "[" * 5000), "recursion"),
        (Grammar(Syntax.JSON_SCHEMA, '{"a":' * 500 + "1" + "}" * 500), "recursion"),
        (Grammar(Syntax.REGEX, "(a"), "unclosed"),
        (Grammar(Syntax.REGEX, "(?=a)"), "look-ahead"),
        (Grammar(Syntax.REGEX, "(" * 50_000), "regex"),
        (Grammar(Syntax.LARK, "start: NOPE"), "NOPE"),
        (Grammar(Syntax.LARK, "root ::= " + "(" * 5000), "neither Lark nor GBNF"),
        (Grammar(Syntax.LARK, ""), "neither Lark nor GBNF"),
    ],
)
def test_what_cannot_be_used_says_why_in_a_few_words(index: LLTokenizer, grammar: Grammar, says: str):
    with pytest.raises(GrammarError, match=says) as caught:
        matcher(index, grammar)
    assert len(str(caught.value)) <= MESSAGE_CHARS_MAX


def test_a_trial_finds_recursion_without_end_too(index: LLTokenizer):
    node = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert "requires itself" in trial(index, schema(node))
    assert trial(index, schema({**node, "required": []})) == ""
    assert trial(index, Grammar(Syntax.REGEX, "a+")) == ""
    assert "unclosed" in trial(index, Grammar(Syntax.REGEX, "(a"))
