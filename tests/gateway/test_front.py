"""The front door with a real server, the official client and a worker in memory."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from cordee.policy.seats import SeatRules
from tests.gateway.doubles import CALLERS, CONTEXT, KEY, OTHER_KEY, PATIENCE_S, Gateway
from tests.rig import until

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TEXT = "Hello é!"


@pytest.fixture(scope="module")
def shared() -> Iterator[Gateway]:
    with Gateway() as gateway:
        yield gateway
    assert gateway.faults == []


@pytest.fixture
def gateway(shared: Gateway) -> Iterator[Gateway]:
    shared.worker.text = TEXT
    shared.worker.act = lambda receiver, attempt: False
    shared.worker.calls.clear()
    shared.worker.cancelled.clear()
    yield shared
    # on its loop: a worker is told to stop before the seat is given back
    assert shared.call(lambda: shared.replica.mine) == 0, "a seat was not given back"
    assert shared.call(lambda: len(shared.watch.open)) == 0


def client(gateway: Gateway, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.url, api_key=key, max_retries=0, timeout=PATIENCE_S)


def error(answer: tuple[int, dict[str, str], bytes], status: int) -> dict[str, Any]:
    """The error object of an answer, in OpenAI's shape."""
    assert answer[0] == status, answer
    assert answer[1]["content-type"] == "application/json"
    assert len(answer[2]) <= 1024
    found: dict[str, Any] = json.loads(answer[2])["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert found["message"]
    return found


# -- answers, read by the official client


def test_a_chat_is_answered(gateway):
    answer = client(gateway).chat.completions.create(**CHAT)
    (choice,) = answer.choices
    assert (choice.message.content, choice.message.role, choice.finish_reason) == (TEXT, "assistant", "stop")
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == len(TEXT.encode())
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_completion_is_answered(gateway):
    answer = client(gateway).completions.create(model="m", prompt="hi", max_tokens=4, echo=True)
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("hiHell", "length")
    assert answer.id.startswith("cmpl-")


def test_several_choices_are_answered(gateway):
    answer = client(gateway).chat.completions.create(**CHAT, n=3)
    assert [(choice.index, choice.message.content) for choice in answer.choices] == [(i, TEXT) for i in range(3)]


def test_a_stream_is_the_answer_in_pieces(gateway):
    chunks = list(
        client(gateway).chat.completions.create(**CHAT, n=2, stream=True, stream_options={"include_usage": True})
    )
    assert len({chunk.id for chunk in chunks}) == 1
    for index in (0, 1):
        mine = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
        assert mine[0].delta.role == "assistant"
        assert "".join(choice.delta.content or "" for choice in mine) == TEXT
        assert [choice.finish_reason for choice in mine if choice.finish_reason] == ["stop"]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 2 * len(TEXT.encode())


def test_a_streamed_completion_is_the_answer_in_pieces(gateway):
    chunks = list(client(gateway).completions.create(model="m", prompt="hi", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT


def test_stop_strings_cut_the_answer(gateway):
    for stream in (False, True):
        answer: Any = client(gateway).chat.completions.create(**CHAT, stop=["lo", "zz"], stream=stream)
        if stream:
            answer = list(answer)
            assert "".join(c.choices[0].delta.content or "" for c in answer) == "Hel"
            assert answer[-1].choices[0].finish_reason == "stop"
        else:
            assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hel", "stop")


def test_logprobs_come_one_a_token(gateway):
    answer = client(gateway).chat.completions.create(**CHAT, logprobs=True, top_logprobs=2)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert b"".join(bytes(entry.bytes or []) for entry in logprobs.content) == TEXT.encode()
    assert all(entry.logprob == -0.5 and len(entry.top_logprobs) == 2 for entry in logprobs.content)
    streamed = list(client(gateway).chat.completions.create(**CHAT, logprobs=True, stream=True))
    entries = [e for chunk in streamed for c in chunk.choices if c.logprobs for e in c.logprobs.content or []]
    assert len(entries) == len(logprobs.content)


def test_models_are_listed(gateway):
    assert [model.id for model in client(gateway).models.list()] == ["m"]
    assert client(gateway).models.retrieve("m").owned_by == "cordee"


def test_text_that_looks_like_the_end_of_a_stream_is_text(gateway):
    gateway.worker.text = "a\n\ndata: [DONE]\n\nevent: x\r\nid: 1\u2028\0"
    chunks = list(client(gateway).chat.completions.create(**CHAT, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == gateway.worker.text


def test_a_worker_that_breaks_off_is_replaced_and_nobody_sees_it(gateway):
    def breaking(receiver: Any, attempt: int) -> bool:
        tries = len(gateway.worker.calls)
        if tries > 2:
            return False
        for index in range(2 * tries - 2, 2 * tries):
            receiver.token(0, index, TEXT.encode()[index], None)
        receiver.broken("gone", ran=True)
        return True

    gateway.worker.act = breaking
    chunks = list(client(gateway).chat.completions.create(**CHAT, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert len(gateway.worker.calls) == 3
    gateway.worker.act = lambda receiver, attempt: False
    assert client(gateway).chat.completions.create(**CHAT).choices[0].message.content == TEXT
    assert gateway.replica.breaker.is_closed


# -- exceptions of the official client


@pytest.mark.parametrize(
    ("body", "key", "kind", "param", "code"),
    [
        ({"temperature": 9}, KEY, openai.BadRequestError, "temperature", "invalid_value"),
        ({"messages": [{"role": "user", "content": "x" * CONTEXT}]}, KEY, openai.BadRequestError, "messages", "context_length_exceeded"),
        ({}, "sk-wrong", openai.AuthenticationError, None, "invalid_api_key"),
        ({}, "sk-narrow", openai.PermissionDeniedError, None, "insufficient_scope"),
        ({"model": "other"}, KEY, openai.NotFoundError, "model", "model_not_found"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_the_right_exception(gateway, body, key, kind, param, code, stream):
    with pytest.raises(kind) as caught:
        client(gateway, key).chat.completions.create(**{**CHAT, **body}, stream=stream)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert gateway.worker.calls == [], "no worker hears of it"


def test_a_rate_that_is_used_up_is_a_rate_limit_error_that_says_when_to_come_back(gateway):
    rare = client(gateway, "sk-rare")
    rare.chat.completions.create(**CHAT)
    with pytest.raises(openai.RateLimitError) as caught:
        rare.chat.completions.create(**CHAT)
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60
    assert caught.value.code == "rate_limit_exceeded"


def test_calls_at_once_are_limited_and_every_end_frees_its_place(gateway):
    single = client(gateway, "sk-single")
    for _ in range(3):
        single.chat.completions.create(**CHAT)
    gateway.worker.cancelled.clear()  # the end of an attempt sets it, too
    gateway.worker.act = lambda receiver, attempt: True
    with _held(gateway, "sk-single"):
        with pytest.raises(openai.RateLimitError) as caught:
            single.chat.completions.create(**CHAT)
        assert caught.value.code == "concurrency_limit_exceeded"
    assert gateway.worker.cancelled.wait(PATIENCE_S)
    gateway.worker.act = lambda receiver, attempt: False
    single.chat.completions.create(**CHAT)


def _held(gateway: Gateway, key: str = KEY, body: dict[str, Any] | None = None) -> socket.socket:
    """A call that is under way, on a connection of its own."""
    before = len(gateway.worker.calls)
    connection = socket.create_connection(("127.0.0.1", gateway.port), timeout=PATIENCE_S)
    data = json.dumps({**CHAT, **(body or {})}).encode()
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s"
        % (key.encode(), len(data), data)
    )
    until(lambda: len(gateway.worker.calls) > before, "the call to begin", PATIENCE_S)
    return connection


def test_a_full_queue_is_an_internal_server_error_that_says_when_to_come_back():
    with Gateway(SeatRules(waiting_max=0), sequences=1) as gateway:
        gateway.worker.act = lambda receiver, attempt: True
        with _held(gateway):
            with pytest.raises(openai.InternalServerError) as caught:
                client(gateway).chat.completions.create(**CHAT)
            assert caught.value.status_code == 503
            assert int(caught.value.response.headers["retry-after"]) >= 1
            assert caught.value.code == "queue_full"
        assert gateway.faults == []


def test_a_deadline_is_a_504_and_the_worker_is_told(gateway):
    gateway.worker.act = lambda receiver, attempt: True
    found = error(gateway.ask(CHAT, headers={"X-Request-Timeout": "0.05"}), 504)
    assert found["code"] == "deadline_exceeded"
    assert gateway.worker.cancelled.wait(PATIENCE_S)


def test_a_deadline_in_the_middle_of_a_stream_is_an_error_event(gateway):
    def one_token(receiver: Any, attempt: int) -> bool:
        receiver.token(0, 0, 72, None)
        return True

    gateway.worker.act = one_token
    seen = []
    with pytest.raises(openai.APIError) as caught:  # noqa: PT012  # the stream is read until it raises
        for chunk in client(gateway).chat.completions.create(
            **CHAT,
            stream=True,
            extra_headers={"X-Request-Timeout": "1.5"},  # the token comes sooner on a busy machine, too
        ):
            seen.append(chunk.choices[0].delta.content)
    assert seen == ["", "H"]
    assert "1.5 s" in caught.value.message


def test_work_that_no_worker_can_do_is_not_tried_twice(gateway):
    def fault(receiver: Any, attempt: int) -> bool:
        receiver.broken("the prompt is longer than the context", ran=False, fault=True)
        return True

    gateway.worker.act = fault
    assert "longer than the context" in error(gateway.ask(CHAT), 422)["message"]
    assert len(gateway.worker.calls) == 1
    assert gateway.replica.breaker.is_closed


def test_a_client_that_leaves_frees_its_seat_and_stops_the_worker(gateway):
    gateway.worker.act = lambda receiver, attempt: True
    _held(gateway, body={"stream": True}).close()
    assert gateway.worker.cancelled.wait(PATIENCE_S)


# -- who may pass


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": ""}, 401),
        ({"Authorization": KEY}, 401),
        ({"Authorization": "Basic c2s6"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": f"Bearer {KEY}x"}, 401),
        ({"Authorization": f"Bearer {KEY[:-1]}"}, 401),
        ({"Authorization": f"Bearer {KEY.upper()}"}, 401),
        ({"Authorization": "Bearer ' OR 1=1 --"}, 401),
        ({"Authorization": f"Bearer {KEY}, Bearer {KEY}"}, 401),
        ({"Authorization": "Bearer " + "x" * 20_000}, 401),
        ({"X-Api-Key": "wrong"}, 401),
        ({"Authorization": f"Bearer {KEY}", "X-Api-Key": OTHER_KEY}, 400),
        ({"Api-Key": KEY, "X-Api-Key": OTHER_KEY}, 400),
        ({"Authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": f"bearer {KEY}"}, 200),
        ({"X-Api-Key": KEY}, 200),
        ({"Api-Key": KEY}, 200),
        ({"Authorization": f"Bearer {KEY}", "X-Api-Key": KEY}, 200),
    ],
)
def test_only_a_whole_key_opens(gateway, headers, status):
    for _ in range(2):  # the second time the key is remembered
        answer = gateway.ask(CHAT, key=None, headers=headers)
        if status == 200:
            assert answer[0] == 200
        else:
            found = error(answer, status)
            assert KEY not in found["message"]
            assert ("www-authenticate" in answer[1]) == (status == 401)
            assert gateway.worker.calls == []


def test_a_key_in_the_url_opens_nothing(gateway):
    assert gateway.ask(CHAT, path=f"/v1/chat/completions?api_key={KEY}", key=None)[0] == 401


def test_whoever_has_no_key_learns_nothing(gateway):
    for path in ("/v1/models", "/v1/models/m", "/v1/models/other", "/v1/nothing", "/", "/admin"):
        assert error(gateway.ask(b"", path, "GET", key=None), 401)["code"] == "invalid_api_key"


def test_a_revoked_key_is_refused_once_keys_are_looked_at_anew(gateway):
    for _ in range(3):  # its head is remembered by then, and who sends it
        assert gateway.ask(CHAT)[0] == 200
    revoked = CALLERS.pop(KEY)
    try:
        gateway.call(gateway.front.forget_keys)
        assert gateway.ask(CHAT)[0] == 401
    finally:
        CALLERS[KEY] = revoked
        gateway.call(gateway.front.forget_keys)


# -- which path leads where


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404), ("POST", "/v1/chat", 404), ("POST", "/v1/chat/completions/", 404), ("GET", "/", 404),
        ("POST", "//v1/chat/completions", 404), ("POST", "/v1/../v1/chat/completions", 404), ("POST", "/v1/chat%2Fcompletions", 404),
        ("POST", "/V1/chat/completions", 404), ("POST", "/v1/chat/completions;x", 404), ("GET", "/healthz/../v1/models", 404),
        ("GET", "/v1/chat/completions", 405), ("PUT", "/v1/completions", 405), ("DELETE", "/v1/models/m", 405),
        ("POST", "/v1/models", 405), ("POST", "/healthz", 405), ("POST", "/metrics", 405),
        ("GET", "/v1/models/other", 404), ("GET", "/v1/models/", 404), ("GET", "/v1/models/..%2f..%2fetc%2fpasswd", 404),
        ("GET", "/v1/models/%ff%00", 404), ("GET", "/v1/models/" + "x" * 5000, 404),
    ],
)  # fmt: skip
def test_other_paths_and_methods_are_refused(gateway, method, path, status):
    found = error(gateway.ask(b"{}" if method in ("POST", "PUT") else b"", path, method), status)
    assert found["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_what_a_machine_looks_at_needs_no_key(gateway, path):
    assert gateway.ask(b"", path, "GET", key=None)[0] == 200


def test_a_query_changes_nothing(gateway):
    assert gateway.ask(CHAT, path="/v1/chat/completions?api-version=1")[0] == 200


def test_a_model_that_is_not_there_is_told_alike_whatever_its_name(gateway):
    for name in ("other", "../../etc/passwd", "m ", "M", "x" * 256, "\u0000", "m\r\nx: y"):
        found = error(gateway.ask({**CHAT, "model": name}), 404)
        assert (found["param"], found["code"]) == ("model", "model_not_found")
        assert "does not exist or you do not have access" in found["message"]


def test_a_gateway_that_drains_or_has_no_replica_is_not_ready(gateway):
    gateway.call(lambda: setattr(gateway.replica, "ready", False))
    assert gateway.ask(b"", "/readyz", "GET", key=None)[0] == 503
    gateway.call(lambda: setattr(gateway.replica, "ready", True))
    gateway.call(lambda: setattr(gateway.front, "is_draining", True))
    assert gateway.ask(b"", "/readyz", "GET", key=None)[0] == 503
    gateway.call(lambda: setattr(gateway.front, "is_draining", False))
    assert gateway.ask(b"", "/readyz", "GET", key=None)[0] == 200
    assert gateway.ask(b"", "/healthz", "GET", key=None)[0] == 200


# -- bodies


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None), (b"{", None), (b"\xff", None), (b"[" * 100_000, None), (b'{"model":"m"}', "messages"),
        (json.dumps({**CHAT, "n": 0}).encode(), "n"), (json.dumps({**CHAT, "n_discard": -1}).encode(), "n_discard"),
        (json.dumps({**CHAT, "stream_options": {}}).encode(), "stream_options"),
        (json.dumps({**CHAT, "metadata": {"a": 10**4}})[:-5].encode() + b"1" * 5000 + b"}}", None),
        (b'{"model":"m","messages":[{"role":"user","content":"x"}],"metadata":{"a":"\xff"}}', None),
        (json.dumps({**CHAT, "messages": [{"role": "user", "content": "x" * 400_000}]}).encode(), "messages"),
    ],
)  # fmt: skip
def test_a_body_that_cannot_be_meant_is_a_400_that_names_the_parameter(gateway, body, param):
    assert error(gateway.ask(body), 400)["param"] == param
    assert gateway.worker.calls == []


def test_a_long_prompt_is_tokenised_aside_and_answered_or_refused_alike(gateway):
    long = {**CHAT, "messages": [{"role": "user", "content": "x" * 10_000}]}
    found = error(gateway.ask(long), 400)
    assert (found["param"], found["code"]) == ("messages", "context_length_exceeded")


@pytest.mark.parametrize(
    "header", [{"X-Request-Timeout": "soon"}, {"X-Request-Timeout": "-1"}, {"X-Cordee-Priority": "urgent"}]
)
def test_a_header_that_cannot_be_meant_is_named(gateway, header):
    (name,) = header
    assert error(gateway.ask(CHAT, headers=header), 400)["param"] == name


def test_more_choices_than_any_worker_has_slots_are_refused_and_hold_nobody_up(gateway):
    assert error(gateway.ask({**CHAT, "n": 100}), 400)["param"] == "n"
    assert gateway.ask(CHAT)[0] == 200


def test_a_body_over_the_limit_is_a_413(gateway):
    answer = gateway.ask(b"x" * (1 << 20) + b"x")
    error(answer, 413)


def test_what_happened_is_counted(gateway):
    gateway.ask(CHAT)
    gateway.ask({**CHAT, "n": 0})
    page = gateway.ask(b"", "/metrics", "GET", key=None)[2].decode()
    assert 'cordee_calls_total{model="m",outcome="served"}' in page
    assert 'cordee_requests_rejected_total{status="400"}' in page
    assert KEY not in page
