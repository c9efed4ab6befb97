"""The turns of a chat in which tools were called, as chat templates want them: arguments as values, every result beside its call's name."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from cordee.wire.errors import Invalid
from cordee.wire.requests import Message
from cordee.wire.strict import decode_part
from cordee.wire.tools import NESTING_MAX, is_deeper

CALLS_MAX = 128  # of one turn
ID_CHARS_MAX = 512


class _Function(Struct, frozen=True):
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    arguments: str


class _Call(Struct, frozen=True):
    id: Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]
    function: _Function
    type: Literal["function"] = "function"


def _call(given: Any) -> _Call:
    return msgspec.convert(given, _Call)


class Turns:
    """Goes through a chat from its beginning. `id_chars`: how long the ids of calls are in the prompt, 0: as they came. `as_text`: their
    arguments stay JSON text."""

    __slots__ = ("_as_text", "_id_chars", "_names")

    def __init__(self, id_chars: int, *, as_text: bool = False) -> None:
        self._id_chars = id_chars
        self._as_text = as_text
        self._names: dict[str, str] = {}  # of the functions that were called, by the ids of the calls

    def fields(self, message: Message, at: int) -> dict[str, Any]:
        """What a turn has beside its role and its content. Raises Invalid."""
        where = f"messages[{at}]"
        if message.role == "tool":
            return self._result(message, where)
        if not message.tool_calls:
            return {}
        if message.role != "assistant":
            raise Invalid(f"{where + '.tool_calls'!r} is for turns of the assistant", f"{where}.tool_calls")
        return {"tool_calls": self._calls(message.tool_calls, where)}

    def _calls(self, given: Sequence[Any], where: str) -> list[dict[str, Any]]:
        if len(given) > CALLS_MAX:
            raise Invalid(f"{where + '.tool_calls'!r} has more than {CALLS_MAX} calls", f"{where}.tool_calls")
        calls = []
        for number, one in enumerate(given):
            call = decode_part(_call, one, f"{where}.tool_calls[{number}]")
            self._names[call.id] = call.function.name
            arguments = _arguments(call.function.arguments, f"{where}.tool_calls[{number}].function.arguments")
            function = {
                "name": call.function.name,
                "arguments": call.function.arguments if self._as_text else arguments,
            }
            calls.append({"id": self._id(call.id), "type": "function", "function": function})
        return calls

    def _result(self, message: Message, where: str) -> dict[str, Any]:
        param = f"{where}.tool_call_id"
        if message.tool_call_id is None:
            raise Invalid(f"you must provide {param!r}", param, code="missing_required_parameter")
        name = self._names.get(message.tool_call_id)
        if name is None:
            raise Invalid(
                f"{param!r} is {message.tool_call_id[:64]!r}, and no turn before it has a tool call of that id", param,
                code="invalid_value",
            )  # fmt: skip
        return {"tool_call_id": self._id(message.tool_call_id), "name": name}

    def _id(self, given: str) -> str:
        chars = self._id_chars
        if not chars or (len(given) == chars and given.isalnum() and given.isascii()):
            return given
        return blake2b(given.encode(), digest_size=chars).hexdigest()[:chars]


def _arguments(text: str, where: str) -> dict[str, Any]:
    if not text.strip():
        return {}
    try:
        arguments = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Invalid(f"{where!r} is not a JSON object: {str(error)[:200]}", where, code="invalid_value") from None
    if is_deeper(arguments, NESTING_MAX):
        raise Invalid(f"{where!r} is nested more than {NESTING_MAX} levels deep", where, code="invalid_value")
    return arguments
