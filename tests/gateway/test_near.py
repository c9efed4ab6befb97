from __future__ import annotations

from array import array
from types import SimpleNamespace
from typing import Any

import pytest

from cordee.domain.caller import Caller
from cordee.gateway import near
from cordee.policy.route import RouteRules, Strategy
from cordee.wire.errors import Invalid
from cordee.wire.requests import ChatRequest, CompletionRequest, Message
from tests.policy.test_route import replica, router

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


HELLO = [Message("system", "You are a poet. " * 100), Message("user", "Hi")]
ANSWERED = [*HELLO, Message("assistant", "Hello!"), Message("user", "A poem, please.")]


def test_the_turns_of_a_conversation_are_alike_however_short_it_began():
    first = near.of_opening(HELLO, 64)
    assert first == near.of_opening(ANSWERED, 64) != 0
    assert near.of_opening(HELLO[1:], 64) == near.of_opening(ANSWERED[1:], 64)


def test_conversations_are_told_apart_also_behind_one_long_system_message():
    assert near.of_opening(HELLO, 64) != near.of_opening([HELLO[0], Message("user", "Ho")], 64)
    assert near.of_opening(HELLO, 64) != near.of_opening(HELLO[1:], 64)


def test_parts_of_a_message_are_read_like_its_text():
    parts: list[dict[str, Any]] = [
        {"type": "text", "text": "H"},
        {"type": "text", "text": "i"},
        {"type": "image_url", "text": 7},
    ]
    assert near.of_opening([Message("user", parts)], 64) == near.of_opening([Message("user", "Hi")], 64)
    assert near.of_opening([Message("user")], 64) == near.of_opening([Message("user", "")], 64) != 0
    assert near.of_opening([Message("user", "\ud800")], 64)


def test_the_strategy_says_what_of_a_call_matters():
    pair = [replica("a"), replica("b")]
    chat = ChatRequest(model="m", messages=HELLO)
    text = CompletionRequest(model="m", prompt="x")
    prompt = array("I", range(100))
    of_tokens = near.of_prompt(prompt, 64)
    assert near.of_call(router(pair), chat, prompt) == near.of_opening(HELLO, 64)
    assert near.of_call(router(pair), text, prompt) == of_tokens
    assert near.of_call(router(pair, RouteRules(Strategy.PREFIX_AFFINITY)), chat, prompt) == of_tokens
    assert near.of_call(router(pair, RouteRules(Strategy.ROUND_ROBIN)), chat, prompt) == 0
    assert near.of_call(router(pair[:1]), chat, prompt) == 0
