"""Answers of other servers, passed on as they are: whole, or clearly not."""

from __future__ import annotations

import asyncio
import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from cordee.domain.call import Call
from cordee.gateway import forward
from cordee.ports import Receiver
from tests.gateway.doubles import Gateway

BODY: dict[str, Any] = {"model": "f", "messages": [{"role": "user", "content": "hi"}]}
JSON = [(b"content-type", b"application/json"), (b"x-internal", b"secret"), (b"set-cookie", b"a=b")]
EVENTS = [(b"content-type", b"text/event-stream")]


class Upstream:
    """Port Upstream that does what the test says; the n-th attempt takes the n-th script, then the last one."""

    def __init__(self) -> None:
        self.scripts: list[Callable[[Receiver], None]] = []
        self.calls: list[Call] = []

    def start(
        self, call: Call, attempt: int, outputs: Sequence[array[int]], done: frozenset[int], remaining_s: float,
        receiver: Receiver,
        sent: Sequence[bytes] = (),
    ) -> Upstream:  # fmt: skip
        self.calls.append(call)
        script = self.scripts[min(len(self.calls), len(self.scripts)) - 1]
        asyncio.get_running_loop().call_soon(script, receiver)
        return self

    def cancel(self) -> None: ...

    def detach(self) -> None:
        self.cancel()


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[Gateway, Upstream]]:
    with Gateway() as gateway:
        upstream = Upstream()
        gateway.call(lambda: gateway._roster.serves("s:1", ["f"], upstream, gateway._roster.breaker()))
        yield gateway, upstream
    assert gateway.faults == []


def asked(
    running: tuple[Gateway, Upstream], *scripts: Callable[[Receiver], None], **body: Any
) -> tuple[int, dict[str, str], bytes]:
    gateway, upstream = running
    upstream.calls.clear()
    upstream.scripts = list(scripts)
    answer = gateway.ask({**BODY, **body})
    (replica,) = gateway._roster.pools["f"].seats.replicas
    assert replica.mine == 0
    replica.breaker.succeeded()
    return answer


def whole(status: int, data: bytes, headers: Sequence[tuple[bytes, bytes]] = JSON) -> Callable[[Receiver], None]:
    def script(receiver: Receiver) -> None:
        receiver.head(status, headers)
        if data:
            receiver.body(data)
        receiver.complete()

    return script


def breaking(*parts: bytes, headers: Sequence[tuple[bytes, bytes]] = JSON) -> Callable[[Receiver], None]:
    def script(receiver: Receiver) -> None:
        if parts:
            receiver.head(200, headers)
        for part in parts:
            receiver.body(part)
        receiver.broken("it closed the connection", ran=True)

    return script


@pytest.mark.parametrize("status", [200, 400, 404, 422, 429, 451, 499, 299])
def test_an_answer_passes_as_it_is_without_the_servers_own_headers(running, status):
    answered, headers, body = asked(running, whole(status, b'{"a": 1}'))
    assert (answered, body) == (status, b'{"a": 1}')
    assert headers["content-type"] == "application/json"
    assert not {"x-internal", "set-cookie"} & headers.keys()
    assert "x-request-id" in headers


def test_the_body_goes_out_byte_for_byte(running):
    asked(running, whole(200, b"{}"), seed=7)
    (call,) = running[1].calls
    assert json.loads(call.body) == {**BODY, "seed": 7}
    assert call.path == "/v1/chat/completions"


def test_an_answer_that_breaks_off_is_asked_for_again(running):
    assert asked(running, breaking(), breaking(b'{"half'), whole(200, b"whole"))[2] == b"whole"
    assert len(running[1].calls) == 3


def test_a_server_that_always_breaks_off_is_given_up(running):
    status, headers, body = asked(running, breaking(b"half"))
    assert status == 503
    assert headers["retry-after"] == "1"
    assert json.loads(body)["error"]["code"] == "attempts_exhausted"
    assert len(running[1].calls) == 3


def test_a_stream_that_breaks_off_ends_in_an_error_and_not_in_done(running):
    status, _, body = asked(running, breaking(b"data: 1\n\n", headers=EVENTS), stream=True)
    assert status == 200
    first, second, rest = body.split(b"\n\n")
    assert (first, rest) == (b"data: 1", b"")
    assert json.loads(second.removeprefix(b"data: "))["error"]["type"] == "server_error"
    assert len(running[1].calls) == 1


def test_a_stream_that_breaks_off_before_its_first_byte_is_asked_for_again(running):
    good = whole(200, b"data: [DONE]\n\n", EVENTS)
    assert asked(running, breaking(headers=EVENTS), good, stream=True)[2] == b"data: [DONE]\n\n"


def test_an_empty_answer_is_an_answer(running):
    assert asked(running, whole(200, b""))[2] == b""


def test_an_answer_too_long_to_hold_is_an_error_and_never_half_an_answer(running, monkeypatch):
    monkeypatch.setattr(forward, "FORWARD_BYTES_MAX", 10)
    status, _, body = asked(running, whole(200, b"x" * 11))
    assert status == 502
    assert "longer than 10 bytes" in json.loads(body)["error"]["message"]
    assert asked(running, whole(200, b"x" * 10))[2] == b"x" * 10


def test_another_server_is_not_sent_to_an_address_that_a_request_names(running):
    gateway, upstream = running
    upstream.calls.clear()
    part = {"type": "image_url", "image_url": {"url": "http://169.254.169.254/"}}
    status, _, body = gateway.ask({"model": "f", "messages": [{"role": "user", "content": [part]}]})
    assert (status, json.loads(body)["error"]["param"]) == (400, "messages[0].content[0]")
    assert upstream.calls == []


def test_a_key_that_decides_the_route_may_not_stand_twice(running):
    gateway, upstream = running
    upstream.calls.clear()
    for body in (
        b'{"model":"f","messages":[{"role":"user","content":"x"}],"model":"m"}',
        b'{"model":"f","messages":[{"role":"user","content":"x"}],"mod\\u0065l":"f"}',
        b'{"model":"f","messages":[{"role":"user","content":"x"}],"stream":true,"stream":false}',
    ):
        assert gateway.ask(body)[0] == 400
    assert upstream.calls == []
