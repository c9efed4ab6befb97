"""JSON as it may come in: valid UTF-8, no duplicate keys, bounded nesting, no NaN; and errors that name the parameter."""

from __future__ import annotations

import json
import re
from typing import Any, TypeVar

import msgspec

from cordee.wire.errors import Invalid

T = TypeVar("T")
DEPTH_MAX = 64  # nested JSON schemas of tools stay well below
_PATH = re.compile(r"^(?P<what>.*) - at `(?P<path>(?:key )?\$?[^`]*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)
_keys = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KEY = re.compile(rb'"([a-zA-Z_]+)"\s*:')
_BACKSLASH = b"\\"
_ESCAPED_ASCII = b"\\u00"
_NOT_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*"|[^\[\]{}"]+', re.DOTALL)
_ENGINE_INTERNALS = frozenset(
    (
        *(
            "n_discard",
            "n_keep",
            "slot_id",
            "id_slot",
            "cache_prompt",
            "grammar",
            "prompt_embeds",
            "n_predict",
            "samplers",
        ),
        *("lora", "lora_request", "chat_template", "chat_template_kwargs", "mm_processor_kwargs", "kv_transfer_params"),
        *("api_base", "base_url", "api_key", "mirostat", "prompt_token_ids", "image_url"),
    )
)


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as its type. Raises Invalid."""
    if not body:
        raise Invalid("the request body is empty; send a JSON object")
    if body.count(b"[") + body.count(b"{") > DEPTH_MAX and depth(body) > DEPTH_MAX:
        raise Invalid(f"the JSON is nested more than {DEPTH_MAX} levels deep")
    try:
        value = decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the body is not valid JSON: {str(error)[:200]}") from None
    if may_repeat(body):
        json.loads(body, object_pairs_hook=_unique)
    return value


def depth(body: bytes) -> int:
    """The deepest nesting of arrays and objects."""
    deepest = level = 0
    for byte in _NOT_NESTING.sub(b"", body):
        if byte in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"]}":
            level -= 1
    return deepest


def may_repeat(body: bytes) -> bool:
    """Whether a top-level key may stand twice.

    The last of two equal keys would win here and the first one elsewhere. Looking closely is slow, so it is done only where
    something that reads like a top-level key occurs twice anywhere, or a key might be written with escapes.
    """
    if _BACKSLASH in body and _ESCAPED_ASCII in body:
        return True
    seen = _KEY.findall(body)
    return any(seen.count(key.encode()) > 1 for key in _keys.decode(body))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Invalid(f"the key {key[:64]!r} stands twice in one object", param=key[:64])
            seen.add(key)
    return found


def _invalid(text: str) -> Invalid:
    """msgspec's message in the words of the API."""
    found = _PATH.match(text)
    what, path = (found["what"], found["path"]) if found else (text, "")
    param = path.removeprefix("key ").removeprefix("in ").lstrip("$").lstrip(".")
    unknown, missing = _UNKNOWN.match(what), _MISSING.match(what)
    if unknown:
        name = unknown["name"][:64]
        full = f"{param}.{name}" if param else name
        if name in _ENGINE_INTERNALS:
            return Invalid(f"the argument {full!r} belongs to an engine and cannot be set from outside", full)
        return Invalid(f"unrecognized request argument: {full!r}", full, code="unknown_parameter")
    if missing:
        name = missing["name"]
        full = f"{param}.{name}" if param else name
        return Invalid(f"you must provide {full!r}", full, code="missing_required_parameter")
    if not param:
        return Invalid(what[:200])
    return Invalid(f"invalid value for {param!r}: {what[0].lower() + what[1:200]}", param, code="invalid_value")
