"""Grammars of calls as the library reads them that holds answers to them: whole answers, over a vocabulary of bytes."""

from __future__ import annotations

import pytest

from cordee.domain.call import Grammar, Syntax
from cordee.kernels.grammar import byte_tokenizer, matcher
from cordee.wire import tool_grammar
from cordee.wire.errors import Invalid
from cordee.wire.grammar import schema_grammar
from cordee.wire.tool_families import HERMES, JSON, LLAMA, MISTRAL
from cordee.wire.tools import Mode, Offer, Tool

BYTES = byte_tokenizer()
SCHEMA = b'{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"],"additionalProperties":false}'
F, G = Tool("f", None, SCHEMA, True), Tool("g", "d", b'{"type":"object"}', False)
MANY, ONE = Offer((F, G), (F, G), Mode.REQUIRED, True), Offer((F, G), (F, G), Mode.REQUIRED, False)


def is_word(grammar: Grammar | None, text: str) -> bool:
    assert grammar is not None
    made = matcher(BYTES, grammar)
    raw = list(text.encode())
    return made.try_consume_tokens(raw) == len(raw) and made.is_accepting()


F1, G1 = '{"name": "f", "arguments": {"a": 1}}', '{"name": "g", "arguments": {"x": [{}]}}'


@pytest.mark.parametrize(
    ("family", "one", "two"),
    [
        (HERMES, f"<tool_call>\n{F1}\n</tool_call>", f"<tool_call>\n{F1}\n</tool_call>\n<tool_call>\n{G1}\n</tool_call>"),
        (MISTRAL, f"[TOOL_CALLS][{F1}]", f"[TOOL_CALLS][{F1}, {G1}]"), (JSON, F1, f"{F1}\n{G1}"),
        (LLAMA, F1.replace("arguments", "parameters"), f"{F1}; {G1}".replace("arguments", "parameters")),
    ],
)  # fmt: skip
def test_an_answer_that_must_call_is_calls_and_nothing_else(family, one, two):
    many, single = tool_grammar.forced(family, MANY, ()), tool_grammar.forced(family, ONE, ())
    assert is_word(many, one)
    assert is_word(many, two)
    assert is_word(single, one)
    assert not is_word(single, two)
    for wrong in (
        "",
        "Hello",
        "Hello " + one,
        one + "x",
        one.replace('"f"', '"h"'),
        one.replace("1", '"1"'),
        one.replace("a", "b", 1),
    ):
        assert not is_word(many, wrong), wrong


def test_a_mark_that_is_a_control_token_is_left_to_the_prompt():
    grammar = tool_grammar.forced(MISTRAL, MANY, ("[TOOL_CALLS]",))
    assert is_word(grammar, f"[{F1}, {G1}]")
    hermes = tool_grammar.forced(HERMES, MANY, ("<tool_call>", "</tool_call>"))
    assert is_word(hermes, f"\n{F1}")
    assert not is_word(hermes, f"\n{F1}\n{F1}")


@pytest.mark.parametrize("family", [HERMES, JSON, LLAMA])
def test_an_answer_that_may_call_is_held_from_the_call_on(family):
    many, single = tool_grammar.free(family, MANY, ()), tool_grammar.free(family, ONE, ())
    call, other = (text.replace("arguments", family.key) for text in (F1, G1))
    call, other = (f"{family.before}{text}{family.after}" for text in (call, other))
    for answer in ("", "Hello {} < you", call):
        assert is_word(many, answer)
        assert is_word(single, answer)
    assert is_word(many, call + family.between + other)
    assert not is_word(single, call + family.between + other)
    assert not is_word(many, call.replace("1", '"1"'))
    assert is_word(many, "I look. " + call), "as a call, or as text that only looks like one"


def test_where_the_mark_is_a_control_token_the_model_is_left_free():
    assert tool_grammar.free(MISTRAL, MANY, ("[TOOL_CALLS]",)) is None
    assert tool_grammar.free(HERMES, MANY, ("<tool_call>",)) is None


def test_calls_or_an_answer_of_a_shape():
    answer = schema_grammar(b'{"type":"object","properties":{"x":{"type":"boolean"}},"required":["x"]}', strict=True)
    grammar = tool_grammar.either(HERMES, MANY, (), answer)
    assert is_word(grammar, '{"x": true}')
    assert is_word(grammar, f"<tool_call>\n{F1}\n</tool_call>")
    assert not is_word(grammar, "Hello")
    assert is_word(tool_grammar.either(HERMES, MANY, (), Grammar(Syntax.JSON_OBJECT, "")), '{"y": 1}')
    with pytest.raises(Invalid, match="cannot be combined"):
        tool_grammar.either(HERMES, MANY, (), Grammar(Syntax.REGEX, "a+"))
    with pytest.raises(Invalid, match="cannot choose"):
        tool_grammar.either(MISTRAL, MANY, ("[TOOL_CALLS]",), answer)
