from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from cordee.domain.call import Grammar, Syntax
from cordee.kernels.grammar import byte_tokenizer, matcher
from cordee.wire import grammar
from cordee.wire.errors import Invalid
from cordee.wire.grammar import Asked

SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "string"}}, "required": ["b"]}
INDEX = byte_tokenizer()


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


def by_format(value: Any) -> Asked | None:
    return grammar.asked(raw(value), UNSET)


def by_outputs(value: Any) -> Asked | None:
    return grammar.asked(UNSET, raw(value))


def accepts(wanted: Grammar, text: str) -> bool:
    data = list(text.encode())
    made = matcher(INDEX, wanted)
    return made.try_consume_tokens(data) == len(data) and made.is_accepting()


def test_text_and_null_ask_for_nothing():
    assert grammar.asked(UNSET, UNSET) is None
    assert by_format({"type": "text"}) is None
    assert by_format(None) is None
    assert by_outputs(None) is None


@pytest.mark.parametrize("strict", [True, False])
def test_a_schema_keeps_the_order_of_its_keys_and_says_how_strict_it_is(strict: bool):
    asked = by_format({"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": strict}})
    assert asked is not None
    assert asked.param == "response_format.json_schema.schema"
    assert asked.grammar.syntax is Syntax.JSON_SCHEMA
    text = json.loads(asked.grammar.text)
    assert text.pop("x-guidance")["lenient"] is not strict
    assert text == SCHEMA
    assert list(text["properties"]) == ["b", "a"]


def test_the_other_types_become_their_grammars():
    assert by_format({"type": "json_object"}) == Asked(Grammar(Syntax.JSON_OBJECT, ""), "response_format")
    assert by_format({"type": "regex", "pattern": "a+"}) == Asked(
        Grammar(Syntax.REGEX, "a+"), "response_format.pattern"
    )
    wanted = Asked(Grammar(Syntax.LARK, 'start: "a"'), "response_format.grammar")
    assert by_format({"type": "grammar", "grammar": 'start: "a"'}) == wanted
    assert by_format({"type": "grammar", "grammar": 'start: "a"', "syntax": "lark"}) == wanted


def test_vllms_way_of_asking_becomes_the_same_grammars():
    assert by_outputs({"regex": "a+"}) == Asked(Grammar(Syntax.REGEX, "a+"), "structured_outputs.regex")
    assert by_outputs({"grammar": "x"}) == Asked(Grammar(Syntax.LARK, "x"), "structured_outputs.grammar")
    as_object, as_text = by_outputs({"json": SCHEMA}), by_outputs({"json": json.dumps(SCHEMA)})
    assert as_object is not None
    assert as_object == as_text
    assert as_object.param == "structured_outputs.json"
    assert by_outputs({"json_object": True}) == Asked(Grammar(Syntax.JSON_OBJECT, ""), "structured_outputs.json_object")


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"name": "n"}}, "response_format.json_schema.schema"),
        ({"type": "json_schema", "json_schema": {"name": "a b", "schema": {}}}, "response_format.json_schema.name"),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": []}}, "response_format.json_schema.schema"),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": {"x-guidance": {}}}},
            "response_format.json_schema.schema",
        ),
        ({"type": "nope"}, "response_format.type"),
        ({"type": "json_object", "more": 1}, "response_format.more"),
        ({"type": "regex"}, "response_format.pattern"),
        ({"type": "grammar", "grammar": "x", "syntax": "abnf"}, "response_format.syntax"),
        ("json", "response_format"),
    ],
)
def test_what_cannot_be_meant_names_the_parameter(value: Any, param: str):
    with pytest.raises(Invalid) as caught:
        by_format(value)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ({}, "structured_outputs"),
        ({"regex": "a", "json": {}}, "structured_outputs"),
        ({"choice": []}, "structured_outputs.choice"),
        ({"choice": [1]}, "structured_outputs.choice[0]"),
        ({"structural_tag": "x"}, "structured_outputs.structural_tag"),
        ({"json": "{"}, "structured_outputs.json"),
    ],
)
def test_structured_outputs_has_exactly_one_constraint(value: Any, param: str):
    with pytest.raises(Invalid) as caught:
        by_outputs(value)
    assert caught.value.param == param


def test_both_ways_at_once_are_refused():
    with pytest.raises(Invalid, match="one of them"):
        grammar.asked(raw({"type": "json_object"}), raw({"regex": "a"}))


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8), min_size=1, max_size=5
    )
)
def test_one_of_some_texts_is_any_of_them_and_nothing_else(texts: list[str]):
    wanted = grammar.one_of(texts)
    for text in texts:
        assert accepts(wanted, text)
        assert accepts(wanted, text + "x") == (text + "x" in texts)


def test_a_value_stands_between_fixed_texts():
    wanted = grammar.around('<tool "x">\n', json.dumps(SCHEMA).encode(), "\n</tool>", strict=True)
    assert accepts(wanted, '<tool "x">\n{"b": 1}\n</tool>')
    assert not accepts(wanted, '{"b": 1}')
    assert not accepts(wanted, '<tool "x">\n{"a": 1}\n</tool>')
    assert not accepts(wanted, '<tool "x">\n{' + " " * 65 + '"b": 1}\n</tool>')
    assert accepts(grammar.around("", json.dumps(SCHEMA).encode(), "", strict=True), '{"b": 1}')
    with pytest.raises(ValueError, match="object"):
        grammar.around("", b"[]", "", strict=True)
