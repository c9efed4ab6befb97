"""WebSockets: who may connect, what messages become, how calls on one connection end, and how the connection does."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from cordee.domain.chunk import Finish
from tests.gateway.doubles import KEY, OTHER_KEY, PATIENCE_S, Gateway
from tests.gateway.mobile.doubles import MobileGateway, ask, hear, hear_until, say
from tests.rig import until

HANDSHAKE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared() -> Iterator[MobileGateway]:
    with MobileGateway() as gateway:
        yield gateway
    assert gateway.faults == []


@pytest.fixture
def gateway(shared: MobileGateway) -> Iterator[MobileGateway]:
    shared.worker.act = lambda receiver, attempt: False
    shared.worker.cancelled.clear()
    shared.keys.revoked.clear()
    shared.resumed.clear()
    yield shared
    until(lambda: not shared.call(lambda: len(shared.watch.open)), "no call is left", PATIENCE_S)
    shared.report()


def refused(gateway: MobileGateway, **options: object) -> tuple[int, bytes]:
    with pytest.raises(InvalidStatus) as caught:
        gateway.open(**options)
    return caught.value.response.status_code, bytes(caught.value.response.body or b"")


def holds(gateway: MobileGateway) -> None:
    """The worker says one token and then nothing more."""

    def act(receiver, attempt):
        receiver.token(0, 0, ord("H"), None)
        return True

    gateway.worker.act = act


def test_a_call_is_created_told_in_deltas_and_completed(gateway):
    with gateway.open(subprotocols=["cordee.v1"]) as socket:
        assert socket.subprotocol == "cordee.v1"
        say(socket, type="call.create", id="a", request=ask(seed=1))
        created, *deltas, completed = hear_until(socket, "a")
        assert created["type"] == "call.created"
        assert "".join(delta["text"] for delta in deltas) == "Hello é!"
        assert deltas[-1]["finish_reason"] == "stop"
        assert completed["choices"] == [{"choice": 0, "finish_reason": "stop"}]
        assert completed["usage"]["completion_tokens"] == 9


def test_several_calls_run_at_once_and_one_too_many_is_refused(gateway):
    holds(gateway)
    with gateway.open() as socket:
        for id in ("a", "b", "c"):
            say(socket, type="call.create", id=id, request=ask())
        heard = [hear(socket) for _ in range(5)]
        assert [m["type"] for m in heard if m["id"] == "a"] == ["call.created", "call.delta"]
        assert [m["type"] for m in heard if m["id"] == "b"] == ["call.created", "call.delta"]
        (failed,) = [m for m in heard if m["id"] == "c"]
        assert failed["error"]["code"] == "concurrency_limit_exceeded"
        say(socket, type="call.create", id="a", request=ask())
        wrong = hear(socket)
        assert (wrong["type"], wrong["error"]["param"]) == ("error", "id")


def test_a_cancelled_call_ends_once_and_its_worker_stops(gateway):
    holds(gateway)
    with gateway.open() as socket:
        say(socket, type="call.create", id="a", request=ask())
        hear_until(socket, "a", "call.delta")
        say(socket, type="call.cancel", id="a")
        assert hear(socket)["error"]["code"] == "cancelled"
        assert gateway.worker.cancelled.wait(PATIENCE_S)
        say(socket, type="call.cancel", id="a")
        say(socket, type="ping")
        assert hear(socket) == {"type": "pong"}


def test_a_client_that_leaves_stops_its_worker(gateway):
    holds(gateway)
    with gateway.open() as socket:
        say(socket, type="call.create", id="a", request=ask())
        hear_until(socket, "a", "call.delta")
    assert gateway.worker.cancelled.wait(PATIENCE_S)
    until(lambda: not gateway.realtime.sessions, "the session is gone", PATIENCE_S)


@pytest.mark.parametrize("message", ["nonsense", "[]", '{"type":"call.delete"}', '{"type":"call.create","id":"a"}'])
def test_a_wrong_message_is_told_and_the_connection_goes_on(gateway, message):
    with gateway.open() as socket:
        socket.send(message)
        wrong = hear(socket)
        assert (wrong["type"], wrong["error"]["type"]) == ("error", "invalid_request_error")
        say(socket, type="ping")
        assert hear(socket) == {"type": "pong"}


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (ask(model="x"), "model"),
        (ask(temperature=3), "temperature"),
        (ask(nonsense=1), "nonsense"),
        ([], None),
        (ask(n=99), "n"),
    ],
)
def test_a_request_that_cannot_be_meant_fails_as_over_http(gateway, request_, param):
    with gateway.open() as socket:
        say(socket, type="call.create", id="a", request=request_)
        failed = hear(socket)
        assert (failed["type"], failed["id"], failed["error"]["param"]) == ("call.failed", "a", param)


def test_a_failure_in_the_middle_is_the_calls_end(gateway):
    def act(receiver, attempt):
        receiver.token(0, 0, ord("H"), None)
        receiver.broken("it fell", ran=True, fault=True)
        return True

    gateway.worker.act = act
    with gateway.open() as socket:
        say(socket, type="call.create", id="a", request=ask())
        *_, failed = hear_until(socket, "a")
        assert failed["type"] == "call.failed"
        assert failed["error"]["message"]


def test_a_client_that_comes_back_gets_the_rest_under_the_name_it_chooses(gateway):
    with gateway.open() as socket:
        say(socket, type="call.resume", stream="abc", position="3.ff", id="mine")
        created, delta, completed = hear_until(socket, "mine")
        assert (created["stream"], created["resumable"]) == ("abc", True)
        assert (delta["text"], delta["position"]) == ("rest", "9.ab")
        assert completed["type"] == "call.completed"
        say(socket, type="call.resume", stream="unknown")
        assert hear_until(socket, "unknown")[0]["error"]["code"] == "stream_not_found"
    assert gateway.resumed == [("abc", "3.ff"), ("unknown", "")]


def test_browsers_send_their_key_as_a_subprotocol_and_it_is_not_sent_back(gateway):
    options = {"additional_headers": {}, "subprotocols": ["cordee.v1", f"bearer.{KEY}"]}
    with gateway.open(origin=f"http://127.0.0.1:{gateway.port}", **options) as socket:
        assert socket.subprotocol == "cordee.v1"
    status, body = refused(gateway, additional_headers={}, subprotocols=["cordee.v1", "bearer.sk-bad"])
    assert (status, b"invalid_api_key" in body) == (401, True)


def test_no_key_is_401_one_without_the_scope_403_and_two_of_them_400(gateway):
    assert refused(gateway, additional_headers={})[0] == 401
    assert refused(gateway, additional_headers={"X-Api-Key": "sk-narrow"})[0] == 403
    assert refused(gateway, subprotocols=["cordee.v1", f"bearer.{OTHER_KEY}"])[0] == 400


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://app.example.evil", "ftp://127.0.0.1"])
def test_pages_of_foreign_origins_may_not_connect(gateway, origin):
    status, body = refused(gateway, origin=origin)
    assert (status, b"realtime.origins" in body) == (403, True)


def test_pages_of_listed_origins_and_our_own_may(gateway):
    for origin in ("https://app.example", f"http://127.0.0.1:{gateway.port}", f"https://127.0.0.1:{gateway.port}"):
        with gateway.open(origin=origin):
            pass


def test_a_request_that_is_no_handshake_is_told_to_upgrade(gateway):
    status, headers, _ = gateway.ask(b"", "/v1/realtime/chat", "GET")
    assert (status, headers["upgrade"]) == (426, "websocket")
    assert gateway.ask(b"", "/v1/realtime/chat", "GET", headers={**HANDSHAKE, "Sec-WebSocket-Version": "8"})[0] == 400
    assert gateway.ask({}, "/v1/realtime/chat", "POST")[0] == 405


def test_no_other_path_changes_its_protocol(gateway):
    assert gateway.ask(b"", "/v1/models", "GET", headers=HANDSHAKE)[0] == 400


def test_a_web_gateway_knows_no_such_path():
    with Gateway() as web:
        web.server.switching.add(b"/v1/realtime/chat")
        assert web.ask(b"", "/v1/realtime/chat", "GET", headers=HANDSHAKE)[0] == 404


def test_a_handshake_sent_behind_another_request_is_refused(gateway):
    gateway.worker.act = lambda receiver, attempt: True
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=PATIENCE_S)
    connection.connect()
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    lines = "".join(f"{name}: {value}\r\n" for name, value in HANDSHAKE.items())
    second = f"GET /v1/realtime/chat HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\n{lines}\r\n"
    connection.sock.sendall(head.encode() + body + second.encode())
    until(lambda: gateway.call(lambda: len(gateway.watch.open)) == 1, "the first one runs", PATIENCE_S)
    assert not gateway.realtime.sessions
    connection.close()


def test_a_revoked_key_ends_its_connections(gateway):
    with gateway.open() as socket:
        gateway.keys.revoked.add(KEY.encode())
        for now_s in (0.0, 1.0):
            gateway.call(lambda: [one.swept(now_s, closing=False) for one in list(gateway.realtime.sessions)])  # noqa: B023
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(timeout=PATIENCE_S)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1008


def test_a_message_beyond_the_limit_ends_the_connection(gateway):
    with gateway.open() as socket:
        socket.send("x" * 5000)
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(timeout=PATIENCE_S)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009


def test_a_gateway_that_shuts_down_lets_calls_end_and_says_farewell():
    with MobileGateway() as gateway, gateway.open() as idle, gateway.open() as busy:
        receivers = []

        def act(receiver, attempt):
            receiver.token(0, 0, ord("H"), None)
            receivers.append(receiver)
            return True

        gateway.worker.act = act
        say(busy, type="call.create", id="a", request=ask())
        hear_until(busy, "a", "call.delta")
        gateway.call(gateway.server.stop_accepting)
        with pytest.raises(ConnectionClosed) as caught:
            idle.recv(timeout=PATIENCE_S)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        say(busy, type="call.create", id="b", request=ask())
        assert hear(busy)["error"]["code"] == "shutting_down"
        gateway.call(lambda: receivers[0].finish(0, 1, Finish.STOP))
        assert hear_until(busy, "a")[-1]["type"] == "call.completed"
        with pytest.raises(ConnectionClosed) as caught:
            busy.recv(timeout=PATIENCE_S)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
        asyncio.run_coroutine_threadsafe(gateway.front.drain(1), gateway._loop).result(PATIENCE_S)
