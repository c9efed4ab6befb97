"""The tools of a request: functions, which the client runs. Tools that OpenAI runs itself are refused by their place and type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from cordee.services.chats.responses.request import AllowedTools, ChosenFunction, Function
from cordee.wire.errors import Invalid
from cordee.wire.strict import decode_part

TOOLS, CHOICE = "tools", "tool_choice"
_MODES = ("none", "auto", "required")


class _Typed(msgspec.Struct):
    type: str


_type = msgspec.json.Decoder(_Typed).decode
_function = msgspec.json.Decoder(Function).decode
_choice = msgspec.json.Decoder(str | AllowedTools | ChosenFunction | None).decode
_any = msgspec.json.Decoder(dict[str, Any]).decode


def functions(given: Sequence[Raw] | None) -> list[Function]:
    """Raises Invalid."""
    found: list[Function] = []
    for at, raw in enumerate(given or ()):
        where = f"{TOOLS}[{at}]"
        _only(decode_part(_type, raw, where).type, ("function",), where)
        found.append(decode_part(_function, raw, where))
    return found


def chosen(raw: Raw | UnsetType) -> str | ChosenFunction | AllowedTools:
    """Raises Invalid."""
    if raw is UNSET or bytes(raw) == b"null":
        return "auto"
    if bytes(raw).lstrip()[:1] == b"{":
        _only(decode_part(_type, raw, CHOICE).type, ("function", "allowed_tools"), CHOICE)
    found: str | AllowedTools | ChosenFunction | None = decode_part(_choice, raw, CHOICE)
    assert found is not None, "null was looked for"
    if isinstance(found, str) and found not in _MODES:
        raise Invalid(f"{CHOICE!r} is one of {', '.join(_MODES)}, or names functions", CHOICE, "invalid_value")
    return found


def shown(tool: Function) -> dict[str, Any]:
    """As a response shows it back."""
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": bool(tool.strict),
    }


def shown_choice(choice: str | ChosenFunction | AllowedTools) -> Any:
    return choice if isinstance(choice, str) else msgspec.to_builtins(choice)


def asked(tool: Function) -> dict[str, Any]:
    """As chat completions have it. Strict only when it says so: a schema that cannot be enforced would be refused."""
    function: dict[str, Any] = {"name": tool.name}
    if tool.description is not None:
        function["description"] = tool.description
    if tool.parameters is not None:
        function["parameters"] = tool.parameters
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def asked_choice(choice: str | ChosenFunction | AllowedTools) -> Any:
    match choice:
        case str():
            return choice
        case ChosenFunction(name):
            return {"type": "function", "function": {"name": name}}
        case AllowedTools(mode, tools):
            named = [{"type": "function", "function": {"name": one.name}} for one in tools]
            return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": named}}


def _only(kind: str, known: tuple[str, ...], where: str) -> None:
    if kind not in known:
        raise Invalid(
            f"{where + '.type'!r} is {kind[:64]!r}, which does not run here; tools are functions, which the client runs",
            f"{where}.type",
            "unsupported_parameter",
        )
