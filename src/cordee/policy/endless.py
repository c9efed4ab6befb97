"""Decides whether a JSON schema asks for something that has no end: an object that must contain another one like it, and so on.

A grammar library sees no fault in such a schema, and an answer to it runs until its last token. The rule is that of productive
symbols in context-free grammars: a schema has a finite answer if what it requires has one, and the least set of schemas for which that
holds is found by going over all of them until nothing changes. What is not understood here is taken to have an end: whoever is refused
is refused for a reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote


def endless(schema: Any) -> str | None:
    """Where the recursion without end is: "#" or a reference like "#/$defs/node". None: there is none."""
    targets = {ref: _target(schema, ref) for ref in _references(schema)}
    finite = dict.fromkeys(targets, False)
    is_changing = True
    while is_changing:
        is_changing = False
        for ref, target in targets.items():
            if not finite[ref] and _has_end(target, finite):
                finite[ref] = is_changing = True
    if _has_end(schema, finite):
        return None
    return next((ref for ref, has_end in finite.items() if not has_end), "#")


def _has_end(schema: Any, finite: Mapping[str, bool]) -> bool:
    if not isinstance(schema, dict) or "const" in schema or "enum" in schema:
        return True
    ref = schema.get("$ref")
    if isinstance(ref, str) and not finite.get(ref, True):
        return False
    if not all(_has_end(part, finite) for part in _list(schema.get("allOf"))):
        return False
    for name in ("anyOf", "oneOf"):
        parts = _list(schema.get(name))
        if parts and not any(_has_end(part, finite) for part in parts):
            return False
    types = schema.get("type")
    kinds = {types} if isinstance(types, str) else set(filter(_is_text, _list(types)))
    if not kinds or kinds - {"object", "array"}:
        return True  # a scalar will do
    return ("object" in kinds and _object_has_end(schema, finite)) or (
        "array" in kinds and _array_has_end(schema, finite)
    )


def _object_has_end(schema: Mapping[str, Any], finite: Mapping[str, bool]) -> bool:
    properties = schema.get("properties")
    if not isinstance(properties, dict):
        return True
    return all(_has_end(properties.get(name), finite) for name in _list(schema.get("required")) if _is_text(name))


def _array_has_end(schema: Mapping[str, Any], finite: Mapping[str, bool]) -> bool:
    least = schema.get("minItems", 0)
    if not isinstance(least, int) or least < 1:
        return True
    first = _list(schema.get("prefixItems"))
    if not all(_has_end(part, finite) for part in first[:least]):
        return False
    return len(first) >= least or _has_end(schema.get("items"), finite)


def _references(schema: Any) -> set[str]:
    """All that anything in the schema refers to."""
    return {node["$ref"] for node in _nodes(schema) if isinstance(node.get("$ref"), str)}


def _nodes(schema: Any) -> Iterator[dict[str, Any]]:
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _target(schema: Any, ref: str) -> Any:
    """What a reference inside the document points at (RFC 6901); None for any other."""
    if ref == "#":
        return schema
    if not ref.startswith("#/"):
        return None
    for part in ref[2:].split("/"):
        key = unquote(part).replace("~1", "/").replace("~0", "~")
        if isinstance(schema, dict):
            schema = schema.get(key)
        elif isinstance(schema, list) and key.isdecimal() and int(key) < len(schema):
            schema = schema[int(key)]
        else:
            return None
    return schema


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
