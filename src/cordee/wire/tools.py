"""The tools that a request offers, and which of them its answer may or must call: `tools`, `tool_choice`, `parallel_tool_calls`."""

from __future__ import annotations

import re
from enum import Enum
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from cordee.domain.record import record
from cordee.wire.errors import Invalid
from cordee.wire.strict import decode_part

TOOLS_MAX = 128  # OpenAI's
NESTING_MAX = 64  # levels of a schema: real ones have ten
DESCRIPTION_CHARS_MAX = 64 * 1024
NAMES_SHOWN = 10  # in an error
NOTHING = b'{"type":"object","properties":{},"additionalProperties":false}'  # the parameters of a function that says nothing of them
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
TOOLS, CHOICE = "tools", "tool_choice"


class _Function(Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    description: Annotated[str, Meta(max_length=DESCRIPTION_CHARS_MAX)] | None = None
    parameters: Raw | UnsetType = UNSET
    strict: bool | None = None


class _Tool(Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["function"]
    function: _Function


class _Name(Struct, frozen=True, forbid_unknown_fields=True):
    name: str


class _Named(Struct, frozen=True, forbid_unknown_fields=True, tag="function"):
    function: _Name


class _Reference(Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["function"]
    function: _Name


class _Allowed(Struct, frozen=True, forbid_unknown_fields=True):
    mode: Literal["auto", "required"]
    tools: Annotated[list[_Reference], Meta(min_length=1, max_length=TOOLS_MAX)]


class _AllowedTools(Struct, frozen=True, forbid_unknown_fields=True, tag="allowed_tools"):
    allowed_tools: _Allowed


_Choice = Literal["none", "auto", "required"] | _Named | _AllowedTools | None
_tools = msgspec.json.Decoder(list[_Tool] | None).decode
_choice = msgspec.json.Decoder(_Choice).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode


class Mode(Enum):
    """Whether an answer calls tools."""

    AUTO = "auto"  # as the model decides
    REQUIRED = "required"  # and says nothing else


@record
class Tool:
    """One function. `schema`: of its arguments, as it came; `is_strict`: all of it holds, or the request is refused. `where`: the
    parameter that the schema came in."""

    name: str
    description: str | None
    schema: bytes
    is_strict: bool
    where: str = TOOLS

    @property
    def fields(self) -> dict[str, Any]:
        """As chat templates expect it."""
        described = {} if self.description is None else {"description": self.description}
        return {"type": "function", "function": {"name": self.name, **described, "parameters": _object(self.schema)}}


@record
class Offer:
    """What a request offers. `tools` is what the model is told of, `callable_` what of it may be called."""

    tools: tuple[Tool, ...]
    callable_: tuple[Tool, ...]
    mode: Mode
    is_parallel: bool

    @property
    def names(self) -> frozenset[str]:
        return frozenset(tool.name for tool in self.callable_)


def offer(tools: Raw | UnsetType, choice: Raw | UnsetType, *, is_parallel: bool) -> Offer | None:
    """None: nothing may be called. Raises Invalid."""
    chosen: _Choice = None if choice is UNSET else decode_part(_choice, choice, CHOICE)
    offered = () if tools is UNSET else _offered(tools)
    if chosen == "none":
        return None
    if not offered:
        if chosen not in (None, "auto"):
            raise Invalid(f"{CHOICE!r} asks for a call, and {TOOLS!r} has none to offer", CHOICE)
        return None
    match chosen:
        case None | "auto":
            return Offer(offered, offered, Mode.AUTO, is_parallel)
        case _Named(function):
            named = _named(offered, function.name, f"{CHOICE}.function.name")
            return Offer(offered, (named,), Mode.REQUIRED, False)
        case _AllowedTools(allowed):
            where = f"{CHOICE}.allowed_tools.tools"
            some = tuple(
                _named(offered, one.function.name, f"{where}[{at}].function.name")
                for at, one in enumerate(allowed.tools)
            )
            return Offer(some, some, Mode(allowed.mode), is_parallel)
        case _:
            return Offer(offered, offered, Mode.REQUIRED, is_parallel)


def _offered(raw: Raw) -> tuple[Tool, ...]:
    given: list[_Tool] = decode_part(_tools, raw, TOOLS) or []
    if len(given) > TOOLS_MAX:
        raise Invalid(f"{TOOLS!r} has {len(given)} functions; at most {TOOLS_MAX} are allowed", TOOLS)
    found: dict[str, Tool] = {}
    for at, one in enumerate(given):
        name, where = one.function.name, f"{TOOLS}[{at}].function.name"
        if not _NAME.fullmatch(name):
            raise Invalid(f"{where!r} has 1 to 64 letters, digits, '_' and '-'", where, code="invalid_value")
        if name in found:
            raise Invalid(f"{where!r} is {name!r}, as that of another function", where, code="invalid_value")
        said_in = f"{TOOLS}[{at}].function.parameters"
        schema = _schema(one.function.parameters, said_in)
        found[name] = Tool(name, one.function.description, schema, bool(one.function.strict), said_in)
    return tuple(found.values())


def _schema(raw: Raw | UnsetType, where: str) -> bytes:
    schema = b"null" if raw is UNSET else bytes(raw)
    if schema in (b"null", b"{}"):
        return NOTHING
    try:
        fields = _object(schema)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise Invalid(f"{where!r} is not a JSON schema: it must be an object", where, code="invalid_value") from None
    if fields.get("type", "object") != "object":
        raise Invalid(f"{where!r} is a schema of type 'object': arguments have names", where, code="invalid_value")
    if is_deeper(fields, NESTING_MAX):
        raise Invalid(f"{where!r} is nested more than {NESTING_MAX} levels deep", where, code="invalid_value")
    return schema


def is_deeper(value: Any, levels: int) -> bool:
    """Whether a JSON value is nested more than so many levels deep."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels < 0 or any(is_deeper(one, levels - 1) for one in inner)


def _named(tools: tuple[Tool, ...], name: str, where: str) -> Tool:
    for tool in tools:
        if tool.name == name:
            return tool
    names = ", ".join(tool.name for tool in tools[:NAMES_SHOWN])
    raise Invalid(f"{where!r} is {name[:64]!r}, which is not among the tools: {names}", where, code="invalid_value")
