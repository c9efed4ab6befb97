"""What shape clients may ask their answers to have, and the grammar that says it.

`response_format` is OpenAI's: text, json_object, json_schema; with two types more, regex and grammar, that other servers of the field have
under names of their own. `structured_outputs` is vLLM's. One of the two may be given. Whether a grammar can be used is not decided here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from cordee.domain.call import JSON_SPACE, Grammar, Syntax
from cordee.wire.errors import Invalid
from cordee.wire.strict import decode_part

FORMAT, OUTPUTS = "response_format", "structured_outputs"
GRAMMAR_BYTES_MAX = 64 * 1024  # of a schema, a pattern or a grammar, where the configuration does not say otherwise
GUIDANCE = "x-guidance"  # the library's own key in a schema
Name = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Options = Annotated[list[str], Meta(min_length=1, max_length=4096)]


class _Schema(Struct, frozen=True, forbid_unknown_fields=True):
    name: Name
    schema: Raw | UnsetType = UNSET
    strict: bool | None = None
    description: str | None = None


class _Text(Struct, frozen=True, forbid_unknown_fields=True, tag="text"):
    pass


class _JsonObject(Struct, frozen=True, forbid_unknown_fields=True, tag="json_object"):
    pass


class _JsonSchema(Struct, frozen=True, forbid_unknown_fields=True, tag="json_schema"):
    json_schema: _Schema


class _Regex(Struct, frozen=True, forbid_unknown_fields=True, tag="regex"):
    pattern: str


class _Grammar(Struct, frozen=True, forbid_unknown_fields=True, tag="grammar"):
    grammar: str
    syntax: Annotated[str, Meta(pattern="^(lark|gbnf|ebnf)$")] = "lark"


class _Outputs(Struct, frozen=True, forbid_unknown_fields=True):
    """vLLM's StructuredOutputsParams, as far as it says what the answer has to be."""

    json: Raw | UnsetType = UNSET
    regex: str | None = None
    choice: Options | None = None
    grammar: str | None = None
    json_object: bool | None = None


_Format = _Text | _JsonObject | _JsonSchema | _Regex | _Grammar
_format = msgspec.json.Decoder(_Format | None).decode
_outputs = msgspec.json.Decoder(_Outputs | None).decode
_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_text = msgspec.json.Decoder(str).decode


class Asked(Struct, frozen=True):
    """A grammar, and the parameter that asked for it. `parts`: what it was put together from, where that are several parameters; only
    needed to say which of them it is that cannot be used."""

    grammar: Grammar
    param: str
    parts: Callable[[], Sequence[Asked]] | None = None


def asked(response_format: Raw | UnsetType, structured_outputs: Raw | UnsetType) -> Asked | None:
    """What an answer has to be; None: any text. Raises Invalid."""
    by_format = None if response_format is UNSET else _of_format(response_format)
    by_outputs = None if structured_outputs is UNSET else _of_outputs(structured_outputs)
    if by_format is not None and by_outputs is not None:
        raise Invalid(f"{FORMAT!r} and {OUTPUTS!r} both say what the answer has to be; send one of them", OUTPUTS)
    return by_format or by_outputs


def schema_grammar(schema: bytes, *, strict: bool) -> Grammar:
    """Answers of a JSON schema. `strict`: all of it is enforced, or it is refused; else what cannot be enforced is left out.
    Raises ValueError for what is not a schema."""
    return Grammar(Syntax.JSON_SCHEMA, _guided(schema, strict=strict))


def around(before: str, schema: bytes, after: str, *, strict: bool) -> Grammar:
    """A JSON value of a schema between two fixed texts: what a model that calls tools by text has to write.
    Raises ValueError for what is not a schema."""
    parts = [_literal(before), "value", _literal(after)]
    line = " ".join(part for part in parts if part != '""')
    return Grammar(Syntax.LARK, f"start: {line}\nvalue: %json {_guided(schema, strict=strict)}\n")


def one_of(texts: Sequence[str]) -> Grammar:
    """Exactly one of these texts."""
    return Grammar(Syntax.LARK, "start: " + " | ".join(_literal(text) for text in texts) + "\n")


def _of_format(raw: Raw) -> Asked | None:
    given: _Format | None = decode_part(_format, raw, FORMAT)
    match given:
        case None | _Text():
            return None
        case _JsonObject():
            return Asked(Grammar(Syntax.JSON_OBJECT, ""), FORMAT)
        case _JsonSchema(json_schema):
            param = f"{FORMAT}.json_schema.schema"
            if json_schema.schema is UNSET:
                raise Invalid(f"you must provide {param!r}", param, code="missing_required_parameter")
            return _schema(bytes(json_schema.schema), param, strict=bool(json_schema.strict))
        case _Regex(pattern):
            return Asked(Grammar(Syntax.REGEX, pattern), f"{FORMAT}.pattern")
        case _Grammar(grammar):
            return Asked(Grammar(Syntax.LARK, grammar), f"{FORMAT}.grammar")


def _of_outputs(raw: Raw) -> Asked | None:
    given: _Outputs | None = decode_part(_outputs, raw, OUTPUTS)
    if given is None:
        return None
    found: list[Asked] = []
    if given.json is not UNSET and bytes(given.json) != b"null":
        found.append(_schema(_unquoted(bytes(given.json)), f"{OUTPUTS}.json", strict=True))
    if given.regex is not None:
        found.append(Asked(Grammar(Syntax.REGEX, given.regex), f"{OUTPUTS}.regex"))
    if given.choice is not None:
        found.append(Asked(one_of(given.choice), f"{OUTPUTS}.choice"))
    if given.grammar is not None:
        found.append(Asked(Grammar(Syntax.LARK, given.grammar), f"{OUTPUTS}.grammar"))
    if given.json_object:
        found.append(Asked(Grammar(Syntax.JSON_OBJECT, ""), f"{OUTPUTS}.json_object"))
    if len(found) != 1:
        named = ", ".join(one.param for one in found) or "none of them"
        raise Invalid(f"{OUTPUTS!r} has one of json, regex, choice, grammar, json_object; given: {named}", OUTPUTS)
    return found[0]


def _schema(schema: bytes, param: str, *, strict: bool) -> Asked:
    try:
        return Asked(schema_grammar(schema, strict=strict), param)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{param!r} is not a JSON schema: {error}", param, code="invalid_value") from None


def _guided(schema: bytes, *, strict: bool) -> str:
    """The schema with what the library is to make of it. Its keys stay in their order, which is that of the answer's."""
    if schema.strip() == b"true":
        schema = b"{}"
    try:
        fields = _fields(schema)
    except msgspec.MsgspecError:
        raise ValueError("it must be an object") from None
    if GUIDANCE in fields:
        raise ValueError(f"the key {GUIDANCE!r} is not for clients")
    options = {"whitespace_pattern": JSON_SPACE, "lenient": not strict}
    return msgspec.json.encode({GUIDANCE: options, **fields}).decode()


def _literal(text: str) -> str:
    """As Lark writes it: like JSON, but no control character stands for itself."""
    return json.dumps(text).replace("\x7f", "\\u007f")


def _unquoted(schema: bytes) -> bytes:
    """vLLM takes a schema as an object or as text."""
    return _text(schema).encode() if schema.startswith(b'"') else schema
