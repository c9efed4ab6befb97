"""The corpus of bodies that are not what they seem: each is a 400 that names the parameter where there is one."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.wire import requests
from cordee.wire.errors import Invalid
from cordee.wire.requests import ChatRequest, CompletionRequest
from cordee.wire.strict import decode, refuse_repeated, refuse_repeated_route

ESSENTIAL = b'"model":"m","messages":[{"role":"user","content":"x"}]'
DEEP = 100_000


def chat(body: bytes) -> ChatRequest:
    value = decode(requests.CHAT, body)
    refuse_repeated(body, requests.keys_in_messages(value))
    return value


def completion(body: bytes) -> CompletionRequest:
    value = decode(requests.COMPLETION, body)
    refuse_repeated(body, keys_below=0)
    return value


def with_(extra: bytes) -> bytes:
    return b"{%s,%s}" % (ESSENTIAL, extra)


def saying(content: bytes) -> bytes:
    return b'{"model":"m","messages":[{"role":"user","content":%s}]}' % content


def fault(body: bytes) -> Invalid:
    with pytest.raises(Invalid) as caught:
        chat(body)
    assert caught.value.status == 400
    assert len(caught.value.message) < 600
    return caught.value


NOT_JSON: dict[str, bytes] = {
    "nothing": b"",
    "white space": b"  \n",
    "an array": b"[]",
    "a text": b'"x"',
    "null": b"null",
    "single quotes": b"{'model':'m'}",
    "a trailing comma": b'{"model":"m",}',
    "a comment": b'{"model":"m"/**/}',
    "something behind it": b"{%s}x" % ESSENTIAL,
    "two bodies": b"{%s}{%s}" % (ESSENTIAL, ESSENTIAL),
    "cut off": b"{%s" % ESSENTIAL,
    "a byte order mark": b"\xef\xbb\xbf{%s}" % ESSENTIAL,
    "UTF-16": b"{%s}".replace(b"%s", ESSENTIAL).decode().encode("utf-16"),
    "UTF-32": b"{%s}".replace(b"%s", ESSENTIAL).decode().encode("utf-32-le"),
    "arrays without end": with_(b'"metadata":' + b"[" * DEEP + b"]" * DEEP),
    "objects without end": with_(b'"metadata":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "content without end": saying(b'[{"type":"text","x":' + b"[" * DEEP + b"]" * DEEP + b"}]"),
    "brackets only": b"[" * DEEP,
    "invalid UTF-8": saying(b'"\xff"'),
    "overlong UTF-8": saying(b'"\xc0\xaf"'),
    "a surrogate in UTF-8": saying(b'"\xed\xa0\x80"'),
    "beyond Unicode": saying(b'"\xf4\x90\x80\x80"'),
    "invalid UTF-8 in what is ignored": with_(b'"metadata":"\xff"'),
    "invalid UTF-8 deep in what is ignored": with_(b'"metadata":{"a":"\xff"}'),
    "a lone surrogate": saying(b'"\\ud800"'),
    "a lone low surrogate": saying(b'"\\udc00 "'),
    "two high surrogates": saying(b'"\\ud800\\ud800"'),
    "a line break in a text": saying(b'"\n"'),
    "NUL in a text": saying(b'"\0"'),
    "NaN": with_(b'"temperature":NaN'),
    "Infinity": with_(b'"temperature":Infinity'),
    "NaN in what is ignored": with_(b'"metadata":{"a":NaN}'),
    "a hexadecimal number": with_(b'"seed":0x1'),
    "a number with a leading zero": with_(b'"seed":01'),
    "a number with a plus": with_(b'"seed":+1'),
    "a number of 100,000 digits in what is ignored": with_(b'"metadata":{"a":%s}' % (b"1" * 100_000)),
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_plain_json_is_refused(body):
    fault(body)


def test_nesting_near_the_limit_is_accepted_or_refused_and_nothing_else():
    for depth in range(900, 1010):
        for body in (
            with_(b'"metadata":' + b'{"a":' * depth + b"1" + b"}" * depth),
            saying(b'[{"type":"text","x":' + b"[" * depth + b"]" * depth + b"}]"),
        ):
            with suppress(Invalid):
                chat(body)


WRONG: dict[bytes, str] = {
    b'"temperature":true': "temperature",
    b'"temperature":"1"': "temperature",
    b'"temperature":-1': "temperature",
    b'"temperature":1e9': "temperature",
    b'"temperature":1e400': "temperature",
    b'"temperature":[]': "temperature",
    b'"max_tokens":true': "max_tokens",
    b'"max_tokens":"5"': "max_tokens",
    b'"max_tokens":1.5': "max_tokens",
    b'"max_tokens":-1': "max_tokens",
    b'"max_tokens":0': "max_tokens",
    b'"max_tokens":2147483648': "max_tokens",
    b'"max_tokens":1000000000000': "max_tokens",
    b'"max_tokens":%s' % (b"9" * 100_000): "max_tokens",
    b'"max_completion_tokens":0': "max_completion_tokens",
    b'"n":0': "n",
    b'"n":-1': "n",
    b'"n":1000000': "n",
    b'"top_p":2': "top_p",
    b'"top_p":-0.1': "top_p",
    b'"min_p":1.1': "min_p",
    b'"top_k":-2': "top_k",
    b'"repetition_penalty":0': "repetition_penalty",
    b'"presence_penalty":3': "presence_penalty",
    b'"frequency_penalty":-3': "frequency_penalty",
    b'"logprobs":1': "logprobs",
    b'"top_logprobs":1000000': "top_logprobs",
    b'"seed":1180591620717411303424': "seed",
    b'"seed":1.5': "seed",
    b'"stop":""': "stop",
    b'"stop":[""]': "stop[0]",
    b'"stop":[1]': "stop[0]",
    b'"stop":[%s]' % b",".join([b'"a"'] * 100_000): "stop",
    b'"stop":"%s"' % (b"a" * 10_000): "stop",
    b'"logit_bias":{"1":101}': "logit_bias",
    b'"logit_bias":{"1":true}': "logit_bias",
    b'"logit_bias":[]': "logit_bias",
    b'"stream":"yes"': "stream",
    b'"stream":1': "stream",
    b'"stream_options":{"x":1}': "stream_options.x",
    b'"stream_options":1': "stream_options",
    b'"user":5': "user",
    b'"user":"%s"' % (b"u" * 10_000): "user",
    b'"temprature":1': "temprature",
    b'"Temperature":1': "Temperature",
    b'"":1': "",
}


@pytest.mark.parametrize(("extra", "param"), WRONG.items(), ids=[key[:40].decode() for key in WRONG])
def test_a_wrong_value_is_refused_with_its_parameter_named(extra, param):
    error = fault(with_(extra))
    assert error.param == param
    assert param in error.message


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b'{"messages":[{"role":"user","content":"x"}]}', "model"),
        (b'{"model":"m"}', "messages"),
        (b'{"model":"","messages":[{"role":"user","content":"x"}]}', "model"),
        (b'{"model":null,"messages":[{"role":"user","content":"x"}]}', "model"),
        (b'{"model":"%s","messages":[]}' % (b"m" * 10_000), "model"),
        (b'{"model":"m","messages":[]}', "messages"),
        (b'{"model":"m","messages":"x"}', "messages"),
        (b'{"model":"m","messages":[{"content":"x"}]}', "messages[0].role"),
        (b'{"model":"m","messages":[{"role":1,"content":"x"}]}', "messages[0].role"),
        (b'{"model":"m","messages":[{"role":"user","content":1}]}', "messages[0].content"),
        (b'{"model":"m","messages":[null]}', "messages[0]"),
        (b'{"model":"m","messages":[%s]}' % b",".join([b'{"role":"user","content":"x"}'] * 5000), "messages"),
    ],
)
def test_what_is_missing_or_of_another_type_is_named(body, param):
    assert fault(body).param == param


@pytest.mark.parametrize(
    "name",
    [
        "n_discard",
        "n_keep",
        "slot_id",
        "cache_prompt",
        "grammar",
        "prompt_embeds",
        "lora",
        "chat_template",
        "mm_processor_kwargs",
        "api_base",
    ],
)
def test_engine_internals_are_refused(name):
    error = fault(with_(b'"%s":1' % name.encode()))
    assert error.param == name
    assert "engine" in error.message


REPEATED: dict[str, bytes] = {
    "at the top": with_(b'"n":1,"n":2'),
    "with equal values": with_(b'"n":1,"n":1'),
    "the model": with_(b'"model":"other"'),
    "spaced": with_(b'"n":1,"n" :2'),
    "with a tab": with_(b'"n":1,"n"\t:2'),
    "with a line break": with_(b'"n":1,"n"\r\n:2'),
    "escaped": with_(b'"n":1,"\\u006e":2'),
    "in a message": b'{"model":"m","messages":[{"role":"user","content":"x","content":"y"}]}',
    "the role": b'{"model":"m","messages":[{"role":"user","role":"system"}]}',
    "escaped in a message": b'{"model":"m","messages":[{"role":"user","content":"x","c\\u006fntent":"y"}]}',
    "in a later message": b'{"model":"m","messages":[{"role":"user","content":"x"},{"role":"user","content":"x","role":"system"}]}',
    "in a part": saying(b'[{"type":"text","text":"a","text":"b"}]'),
    "in stream_options": with_(b'"stream_options":{"include_usage":true,"include_usage":false}'),
    "in logit_bias": with_(b'"logit_bias":{"1":1,"1":2}'),
    "in what is ignored": with_(b'"metadata":{"a":{"b":1,"b":2}}'),
}  # fmt: skip


@pytest.mark.parametrize("body", REPEATED.values(), ids=REPEATED)
def test_a_key_that_stands_twice_is_refused(body):
    assert "twice" in fault(body).message


@pytest.mark.parametrize(
    "content",
    [
        b'"\\"role\\": \\"system\\""', b'"{\\"a\\":1,\\"a\\":2}"', b'"a\\":b\\":c"', b'"\\u0041"', b'"\\u0000"',
        "\"\\ud83d\\ude00 é 漢 😀\"".encode(),
    ],
)  # fmt: skip
def test_text_that_looks_like_keys_or_escapes_is_text(content):
    assert chat(saying(content)).messages[0].content == json.loads(content)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(st.tuples(TEXTS, TEXTS | st.none()), min_size=1, max_size=4), VALUES, st.booleans())
def test_every_honest_body_is_accepted_as_it_is(turns, metadata, is_ascii):
    body = {
        "model": "m",
        "messages": [{"role": role[:32], "content": content} for role, content in turns],
        "metadata": metadata,
    }
    got = chat(json.dumps(body, ensure_ascii=is_ascii).encode())
    assert [(message.role, message.content) for message in got.messages] == [(role[:32], text) for role, text in turns]


@given(
    st.lists(st.sampled_from(["n", "seed", "top_p", "user"]), max_size=5), st.sampled_from([b":", b" :", b"\t:", b": "])
)
def test_a_repeated_key_is_found_wherever_it_stands(names, colon):
    values = {"n": b"1", "seed": b"2", "top_p": b"0.5", "user": b'"u\\":"'}
    pairs = b"".join(b',"%s"%s%s' % (name.encode(), colon, values[name]) for name in names)
    body = b"{%s%s}" % (ESSENTIAL, pairs)
    if len(set(names)) == len(names):
        chat(body)
    else:
        fault(body)


@given(st.binary(max_size=60))
def test_nothing_but_invalid_is_ever_raised(data):
    for read in (chat, completion):
        with pytest.raises(Invalid):
            read(data)


def test_completions_have_their_own_parameters():
    body = completion(b'{"model":"m","prompt":["a"],"logprobs":3,"echo":true,"best_of":1,"suffix":""}')
    assert (body.prompt, body.logprobs, body.echo) == (["a"], 3, True)
    with pytest.raises(Invalid) as caught:
        completion(b'{"model":"m","prompt":"a","messages":[]}')
    assert caught.value.param == "messages"


@pytest.mark.parametrize(
    "body",
    [b'{"model":"a","model":"b"}', b'{"stream":true,"model":"a","stream":false}', b'{"mod\\u0065l":"a","model":"b"}'],
)
def test_a_body_that_is_passed_on_may_not_route_two_ways(body: bytes) -> None:
    with pytest.raises(Invalid, match="stands twice"):
        refuse_repeated_route(body)
