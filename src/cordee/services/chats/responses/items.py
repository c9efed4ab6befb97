"""What goes into a response, item by item: messages, calls of functions with their results, reasoning. As clients may write it, and as
it is kept: every item with an id, its text in parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from cordee.wire.errors import Invalid

Item = Mapping[str, Any]  # as it is kept and shown: one of OpenAI's item types
NameItem = Callable[[str], str]  # a prefix ("msg") → the id of the next item
CALL_ID = Annotated[str, Meta(min_length=1, max_length=512)]
_Status = Literal["in_progress", "completed", "incomplete"] | None
_PARTS_MAX = 1024


class _Part(Struct, frozen=True):
    """A part of a message. Which fields it needs is up to its type."""

    type: Literal["input_text", "output_text", "text", "refusal", "input_image", "input_file", "input_audio"]
    text: str | None = None
    refusal: str | None = None
    image_url: Annotated[str, Meta(max_length=16_777_216)] | None = None
    detail: Annotated[str, Meta(max_length=16)] | None = None
    file_id: str | None = None


_Parts = Annotated[list[_Part], Meta(max_length=_PARTS_MAX)]


class _Message(Struct, frozen=True, tag="message"):
    role: Literal["user", "assistant", "system", "developer"]
    content: str | _Parts
    status: _Status = None


class _Call(Struct, frozen=True, tag="function_call"):
    call_id: CALL_ID
    name: Annotated[str, Meta(min_length=1, max_length=64)]
    arguments: str
    status: _Status = None


class _Result(Struct, frozen=True, tag="function_call_output"):
    call_id: CALL_ID
    output: str | _Parts
    status: _Status = None


class _Thought(Struct, frozen=True):
    text: str


class _Reasoning(Struct, frozen=True, tag="reasoning"):
    summary: list[_Thought] = []
    content: list[_Thought] | None = None


class _Reference(Struct, frozen=True, tag="item_reference"):
    id: Annotated[str, Meta(min_length=1, max_length=64)]


_Item = _Message | _Call | _Result | _Reasoning | _Reference
_KINDS = ("message", "function_call", "function_call_output", "reasoning", "item_reference")


def taken(
    given: str | Sequence[Mapping[str, Any]], name: NameItem, before: Sequence[Item], param: str = "input"
) -> list[dict[str, Any]]:
    """The items of a request as they are kept. `before`: what came before, which references may name; `param`: what the request calls
    them. Raises Invalid."""
    if isinstance(given, str):
        return [_message(name, "user", [_text(given, "user")])]
    known = {str(item["id"]): item for item in before}
    return [_taken(item, name, known, f"{param}[{at}]") for at, item in enumerate(given)]


def _taken(given: Mapping[str, Any], name: NameItem, known: Mapping[str, Item], where: str) -> dict[str, Any]:
    kind = given.get("type") or ("message" if "role" in given else "item_reference" if set(given) == {"id"} else None)
    if kind not in _KINDS:
        shown = "missing" if kind is None else repr(str(kind)[:64])
        raise Invalid(
            f"{where + '.type'!r} is {shown}; items here are {', '.join(_KINDS)}", f"{where}.type", "invalid_value"
        )
    match _converted({**given, "type": kind}, where):
        case _Message(role, content):
            return _message(name, role, _content(content, role, f"{where}.content"))
        case _Call(call_id, function, arguments):
            return {
                "id": name("fc"), "type": "function_call", "status": "completed", "call_id": call_id, "name": function,
                "arguments": arguments,
            }  # fmt: skip
        case _Result(call_id, output):
            said = output if isinstance(output, str) else _content(output, "user", f"{where}.output")
            return {
                "id": name("fco"), "type": "function_call_output", "status": "completed", "call_id": call_id, "output": said
            }  # fmt: skip
        case _Reasoning(summary, thoughts):
            parts = [{"type": "reasoning_text", "text": one.text} for one in thoughts or ()]
            told = [{"type": "summary_text", "text": one.text} for one in summary]
            return {"id": name("rs"), "type": "reasoning", "summary": told, "content": parts}
        case _Reference(item_id):
            meant = known.get(item_id)
            if meant is None:
                raise Invalid(
                    f"{where + '.id'!r}: there is no item {item_id} in what came before",
                    f"{where}.id",
                    "not_found",
                    404,
                )
            return {**meant, "id": name(item_id.partition("_")[0])}


def _converted(given: Mapping[str, Any], where: str) -> _Item:
    try:
        item: _Item = msgspec.convert(given, _Item)
        return item
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        inside = where + path.rstrip("`")
        raise Invalid(f"invalid value for {inside!r}: {what[:200]}", inside, "invalid_value") from None


def _message(name: NameItem, role: str, content: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": name("msg"), "type": "message", "status": "completed", "role": role, "content": content}


def _content(given: str | list[_Part], role: str, where: str) -> list[dict[str, Any]]:
    if isinstance(given, str):
        return [_text(given, role)]
    return [_part(part, role, f"{where}[{at}]") for at, part in enumerate(given)]


def _text(text: str, role: str) -> dict[str, Any]:
    if role == "assistant":
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"type": "input_text", "text": text}


def _part(part: _Part, role: str, where: str) -> dict[str, Any]:
    match part.type:
        case "input_text" | "output_text" | "text":
            return _text(_there(part.text, f"{where}.text"), role)
        case "refusal":
            return {"type": "refusal", "refusal": _there(part.refusal, f"{where}.refusal")}
        case "input_image" if part.image_url is not None:
            return {"type": "input_image", "image_url": part.image_url, "detail": part.detail or "auto"}
        case "input_image" | "input_file" | "input_audio":
            raise Invalid(
                f"{where + '.type'!r} is {part.type!r}, of which nothing here can be made text; send text, or an image's URL",
                f"{where}.type",
                "unsupported_parameter",
            )


def _there(value: str | None, where: str) -> str:
    if value is None:
        raise Invalid(f"you must provide {where!r}", where, "missing_required_parameter")
    return value
