"""JSON as it may come in: valid UTF-8, no duplicate keys, bounded nesting, no NaN; and errors that name the parameter."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from cordee.wire.errors import Invalid

T = TypeVar("T")
_PATH = re.compile(r"^(?P<what>.*) - at `(?P<path>(?:key )?\$?[^`]*)`$", re.DOTALL)
_UNKNOWN = re.compile(r"^Object contains unknown field `(?P<name>.*)`$", re.DOTALL)
_MISSING = re.compile(r"^Object missing required field `(?P<name>.*)`$", re.DOTALL)
_keys = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SPACED_KEY = re.compile(rb'"[ \t\r\n]+:')
_route_keys = re.compile(rb'"(?:model|stream)"').findall
_BACKSLASH = b"\\"
_ESCAPED_ASCII = b"\\u00"
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
        *("lora", "lora_request", "chat_template", "mm_processor_kwargs", "kv_transfer_params"),
        *("api_base", "base_url", "api_key", "mirostat", "prompt_token_ids", "image_url"),
    )
)


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as its type. How deep it may be nested is limited by the decoder. Raises Invalid."""
    if not body:
        raise Invalid("the request body is empty; send a JSON object")
    try:
        if not body.isascii():
            body.decode()  # also what is only passed on is text
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"the body is not valid JSON: {str(error)[:200]}") from None


def decode_part(read: Callable[[bytes | msgspec.Raw], T], raw: bytes | msgspec.Raw, param: str) -> T:
    """The value of a parameter as its type; `read` is a decoder's method. Raises Invalid."""
    try:
        return read(raw)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), param) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"invalid value for {param!r}: {str(error)[:200]}", param, code="invalid_value") from None


def refuse_repeated(body: bytes, keys_below: int) -> None:
    """Refuse a key that stands twice in one object: the last of two wins here, and the first one elsewhere. `keys_below`: how
    many keys the decoded value has, as far as it can tell, in the objects inside it. Raises Invalid."""
    try:
        if not may_repeat(body, keys_below):
            return
    except RecursionError:  # nested a little less deep than the decoder of its type allows
        raise Invalid("the body is not valid JSON: it is nested too deeply") from None
    look_closely(body)


def refuse_repeated_route(body: bytes) -> None:
    """The same, where only what decides the route is worth its time: a body that is passed on is read again by whoever gets
    it. Raises Invalid."""
    found = _route_keys(body)
    if len(found) > len(set(found)) or (_BACKSLASH in body and _ESCAPED_ASCII in body):
        look_closely(body)


def look_closely(body: bytes) -> None:
    try:
        json.loads(body, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # numbers without end, and nesting a little less deep than it may be
        raise Invalid(f"the body is not JSON that is good for anything: {str(error)[:200]}") from None


def may_repeat(body: bytes, keys_below: int) -> bool:
    """Whether a key may stand twice in one object.

    The last of two equal keys would win here and the first one elsewhere. Looking closely is slow. A body with exactly as
    many keys as its value has cannot repeat one; whoever writes keys so that they cannot be counted is looked at closely.
    """
    counted = body.count(b'":')
    if counted > keys_below + len(_keys.decode(body)):
        return True
    return _SPACED_KEY.search(body) is not None or (_BACKSLASH in body and _ESCAPED_ASCII in body)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Invalid(f"the key {key[:64]!r} stands twice in one object", param=key[:64])
            seen.add(key)
    return found


def _invalid(text: str, base: str = "") -> Invalid:
    """msgspec's message in the words of the API; `base` is the parameter that it is about, where that is not the body."""
    found = _PATH.match(text)
    what, path = (found["what"], found["path"]) if found else (text, "")
    param = path.removeprefix("key ").removeprefix("in ").lstrip("$").removesuffix("[...]")
    param = base + param if base else param.lstrip(".")
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
