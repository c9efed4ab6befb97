from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any

import pytest

from cordee.domain.caller import Caller
from cordee.gateway import near
from cordee.wire.errors import Invalid

ANYWHERE = Caller("key", "tenant")


def request(**headers: bytes) -> Any:
    return SimpleNamespace(headers={name.replace("_", "-").encode(): value for name, value in headers.items()})


def test_a_region_is_a_short_name_in_any_case():
    assert near.region(request(x_cordee_region=b"EU-West-1"), ANYWHERE) == "eu-west-1"
    assert near.region(request(), ANYWHERE) == ""


def test_a_key_says_where_calls_come_from_that_do_not_say():
    caller = Caller("key", "tenant", region="eu-north-1")
    assert near.region(request(), caller) == "eu-north-1"
    assert near.region(request(x_cordee_region=b"us-east-1"), caller) == "us-east-1"


@pytest.mark.parametrize("value", [b"", b"a" * 64, b"eu west", b"\xff", b"eu;us", b"../x"])
def test_anything_else_is_refused_by_name(value):
    with pytest.raises(Invalid, match="X-Cordee-Region"):
        near.region(request(x_cordee_region=value), ANYWHERE)


def test_prompts_that_begin_alike_are_alike():
    first, second = array("I", [1, 2, 3, 4]), array("I", [1, 2, 3, 9])
    assert near.of_prompt(first, 3) == near.of_prompt(second, 3) != 0
    assert near.of_prompt(first, 4) != near.of_prompt(second, 4)


def test_bodies_are_alike_whatever_comes_before_their_messages():
    message = b'"messages":[{"role":"system","content":"You are a poet."},{"role":"user","content":"'
    one, other = b'{"model":"m","temperature":1,' + message + b'a"}]}', b'{"model":"m",' + message + b'b"}]}'
    assert near.of_body(one, 12) == near.of_body(other, 12)
    assert near.of_body(one, 64) != near.of_body(other, 64)
    assert near.of_body(b'{"prompt":"x"}', 4) != near.of_body(b'{"prompt":"y"}', 4)
