from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from cordee.policy.endless import endless

SELF = {"$ref": "#"}


def an_object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required}


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": "string"},
        {"type": "foo"},
        an_object(["a"], a={"type": "string"}),
        an_object([], a=SELF),
        an_object(["a"]),
        an_object(["next"], next={"anyOf": [SELF, {"type": "null"}]}),
        an_object(["next"], next={"type": ["object", "null"], "properties": {"next": SELF}, "required": ["next"]}),
        an_object(["children"], children={"type": "array", "items": SELF}),
        an_object(["a"], a={"type": "array", "minItems": 1, "prefixItems": [{"type": "string"}], "items": SELF}),
        {"$ref": "#/$defs/a", "$defs": {"a": {"enum": [1]}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "integer"}]}}},
        {"$ref": "https://example.org/elsewhere"},
        {"properties": {"a": SELF}, "required": ["a"]},  # it may also be a number
        {"$ref": "#/$defs/nowhere"},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "type": "string"},  # nobody needs it
    ],
)
def test_what_can_end_is_let_through(schema: Any):
    assert endless(schema) is None


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        (SELF, "#"),
        (an_object(["a"], a=SELF), "#"),
        (an_object(["a"], a={"type": "array", "minItems": 1, "items": SELF}), "#"),
        (an_object(["a"], a={"type": "array", "minItems": 1, "prefixItems": [SELF]}), "#"),
        (an_object(["a"], a={"anyOf": [SELF, SELF]}), "#"),
        (an_object(["a"], a={"allOf": [{"type": "object"}, SELF]}), "#"),
        (
            {
                "$ref": "#/$defs/a~1b",
                "$defs": {
                    "a/b": an_object(["x"], x={"$ref": "#/$defs/c"}),
                    "c": an_object(["y"], y={"$ref": "#/$defs/a~1b"}),
                },
            },
            "#/$defs/a~1b",
        ),
    ],
)
def test_what_requires_itself_is_found(schema: Any, where: str):
    found = endless(schema)
    assert found is not None
    if where == "#":
        assert found == "#"
    else:
        assert found.startswith("#/$defs/")


def test_a_long_chain_of_references_is_followed():
    names = [f"d{i}" for i in range(60)]
    chain = {one: an_object(["x"], x={"$ref": f"#/$defs/{two}"}) for one, two in pairwise(names)}
    assert endless({"$ref": "#/$defs/d0", "$defs": {**chain, "d59": {"type": "string"}}}) is None
    assert endless({"$ref": "#/$defs/d0", "$defs": {**chain, "d59": {"$ref": "#/$defs/d0"}}}) is not None
