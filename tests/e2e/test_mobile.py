"""Mobile clients against real gateways and workers: chats over WebSocket and gRPC that go on at another gateway when theirs is
killed, and what happens to clients that leave, that do not read, and that only wait."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from cordee.wire.v1.chat_pb2 import ChatEvent, ChatRequest, Message, ResumeRequest
from tests.e2e.stores import running_store
from tests.rig import KEY, PATIENCE_S, Rig, oracle_text, until

pytestmark = pytest.mark.e2e

HEADERS = {"Authorization": f"Bearer {KEY}"}
METADATA = (("authorization", f"Bearer {KEY}"),)
TOKENS = 300
SEED = 77
IDLE_CONNECTIONS = 200
IDLE_KIB_MAX = 20


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_store(tmp_path_factory.mktemp("store")) as url:
        yield url


@pytest.fixture
def own(tmp_path: Path, store: str) -> Iterator[Rig]:
    """For a test that kills what it was given."""
    with Rig(tmp_path, kind="mobile", gateways=2, gateway_flags=("--store", store)) as rig:
        yield rig


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory, store: str) -> Iterator[Rig]:
    """One worker that answers one call at a time: it is free, or nobody else gets anything."""
    directory = tmp_path_factory.mktemp("rig")
    config = directory / "one.toml"
    config.write_text("[oracle]\nslots = 1\n")
    flags = ("--config", str(config))
    with Rig(directory, workers=1, kind="mobile", gateway_flags=("--store", store), worker_flags=flags) as rig:
        yield rig


def ask(max_tokens: int = TOKENS, **more: Any) -> dict[str, Any]:
    return {
        "model": "oracle", "messages": [{"role": "user", "content": "hi"}], "seed": SEED, "max_tokens": max_tokens,
        "ignore_eos": True, **more,
    }  # fmt: skip


def request(max_tokens: int = TOKENS, **more: Any) -> ChatRequest:
    messages = [Message(role="user", content="hi")]
    return ChatRequest(model="oracle", messages=messages, seed=SEED, max_tokens=max_tokens, ignore_eos=True, **more)


def dial(rig: Rig, gateway: int = 0, **options: Any) -> ClientConnection:
    options.setdefault("additional_headers", HEADERS)
    connection: ClientConnection = connect(
        f"ws://127.0.0.1:{rig.ports[gateway]}/v1/realtime/chat", open_timeout=PATIENCE_S, **options
    )
    return connection


def say(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))


def hear(socket: ClientConnection) -> dict[str, Any]:
    heard: dict[str, Any] = json.loads(socket.recv(timeout=PATIENCE_S))
    return heard


def stub(channel: grpc.Channel, name: str, of: Any) -> Callable[..., Any]:
    rpc: Callable[..., Any] = channel.unary_stream(
        f"/cordee.v1.Chat/{name}", of.SerializeToString, ChatEvent.FromString
    )
    return rpc


def channel_to(rig: Rig, gateway: int) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{rig.grpc_ports[gateway]}")


def anonymous_kib(rig: Rig, gateway: int = 0) -> int:
    status = Path(f"/proc/{rig.gateways[gateway].pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+)", status)
    assert found is not None
    return int(found[1])


def test_a_websocket_stream_goes_on_at_another_gateway_when_its_own_is_killed(own):
    texts: list[str] = []
    place: dict[str, str] = {}
    with dial(own) as socket:
        say(socket, type="call.create", id="a", request=ask())
        created = hear(socket)
        assert created["resumable"]

        def read() -> None:
            while True:
                delta = hear(socket)
                texts.append(delta["text"])
                place.update(stream=created["stream"], position=delta["position"])
                if len(texts) == 40:
                    own.gateways[0].kill()

        with pytest.raises(ConnectionClosed):
            read()
    with dial(own, 1) as socket:
        say(socket, type="call.resume", id="a", **place)
        assert hear(socket)["type"] == "call.created"
        while (message := hear(socket))["type"] == "call.delta":
            texts.append(message["text"])
        assert message["type"] == "call.completed", message
        assert message["choices"] == [{"choice": 0, "finish_reason": "length"}]
    assert "".join(texts) == oracle_text(SEED, TOKENS)


def test_an_rpc_goes_on_at_another_gateway_when_its_own_is_killed(own):
    events: list[ChatEvent] = []

    def read() -> None:
        for event in stub(channel, "Create", ChatRequest)(request(), metadata=METADATA):
            events.append(event)
            if len(events) == 40:
                own.gateways[0].kill()

    with channel_to(own, 0) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    again = ResumeRequest(stream=events[0].created.stream, position=events[-1].position)
    with channel_to(own, 1) as channel:
        events += stub(channel, "Resume", ResumeRequest)(again, metadata=METADATA)
    assert "".join(event.delta.text for event in events) == oracle_text(SEED, TOKENS)
    assert [event.finished.reason for event in events if event.HasField("finished")] == ["length"]
    assert [event.usage.completion_tokens for event in events if event.HasField("usage")] == [TOKENS]


@pytest.mark.parametrize("position", ["3.0000000000000000", "9999.0000000000000000", "x"])
def test_a_forged_position_and_a_foreign_stream_are_the_same_no(rig, position):
    with dial(rig) as socket:
        say(socket, type="call.create", id="a", request=ask(5))
        stream = hear(socket)["stream"]
        while hear(socket)["type"] != "call.completed":
            pass
        say(socket, type="call.resume", id="b", stream=stream, position=position)
        forged = hear(socket)
        say(socket, type="call.resume", id="b", stream="0" * 40, position=position)
        assert hear(socket)["error"] == forged["error"]
        assert forged["error"]["code"] == "stream_not_found"


def test_cancelling_frees_the_worker_also_where_the_call_is_kept(rig):
    with dial(rig) as socket:
        say(socket, type="call.create", id="long", request=ask(50_000))
        assert hear(socket)["resumable"]
        assert hear(socket)["type"] == "call.delta"
        say(socket, type="call.cancel", id="long")
        while (message := hear(socket))["type"] == "call.delta":
            pass
        assert message["error"]["code"] == "cancelled"
        say(socket, type="call.create", id="next", request=ask(3))
        while (message := hear(socket))["type"] != "call.completed":
            assert message["type"] != "call.failed", message
    with channel_to(rig, 0) as channel:
        create = stub(channel, "Create", ChatRequest)
        call = create(request(50_000, resumable=False), metadata=METADATA)
        assert not next(call).created.resumable
        call.cancel()
        events = list(create(request(3), metadata=METADATA, timeout=PATIENCE_S))
        assert "".join(event.delta.text for event in events) == oracle_text(SEED, 3)
    until(lambda: rig.metric("cordee_calls_open") == 0, "no call is left")


def test_a_foreign_page_may_not_connect(rig):
    with pytest.raises(InvalidStatus) as caught:
        dial(rig, origin="https://evil.example")
    assert caught.value.response.status_code == 403


def test_a_gateway_that_ends_says_so(own):
    with dial(own) as idle, dial(own) as busy:
        say(busy, type="call.create", id="a", request=ask(50))
        assert hear(busy)["type"] == "call.created"
        own.gateways[0].send_signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            idle.recv(timeout=PATIENCE_S)
        text = ""
        while (message := hear(busy))["type"] == "call.delta":
            text += message["text"]
        assert (message["type"], text) == ("call.completed", oracle_text(SEED, 50))
        with pytest.raises(ConnectionClosed) as caught:
            busy.recv(timeout=PATIENCE_S)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1001
    assert own.gateways[0].wait(PATIENCE_S) == 0


def test_who_does_not_read_costs_little_and_holds_up_nobody(own):
    """Four connections of four long answers each, whose client never reads; and one beside them that does."""
    before = anonymous_kib(own)
    with ExitStack() as stack:
        for _ in range(4):
            lazy = stack.enter_context(stopped_reader(own.ports[0]))
            for id in range(4):
                body = ask(60_000, n=8)
                body["stop"] = ["never"]
                lazy.sendall(masked(json.dumps({"type": "call.create", "id": str(id), "request": body}).encode()))
        with dial(own) as socket:
            say(socket, type="call.create", id="a", request=ask(400))
            text = ""
            while (message := hear(socket))["type"] != "call.completed":
                text += message.get("text", "")
        assert text == oracle_text(SEED, 400)
        assert anonymous_kib(own) - before < 16 * 1024


def stopped_reader(port: int) -> socket.socket:
    """A WebSocket whose client reads its handshake and nothing more."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(
        b"GET /v1/realtime/chat HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % KEY.encode()
    )
    assert sock.recv(4096).startswith(b"HTTP/1.1 101 ")
    return sock


def masked(message: bytes) -> bytes:
    """One text frame of a client, with the mask that changes nothing."""
    return b"\x81\xfe" + len(message).to_bytes(2, "big") + bytes(4) + message


def test_connections_that_only_wait_cost_little(rig):
    async def cost() -> float:
        url = f"ws://127.0.0.1:{rig.ports[0]}/v1/realtime/chat"
        first = [await connect_async(url, additional_headers=HEADERS) for _ in range(20)]
        before = anonymous_kib(rig)
        rest = [await connect_async(url, additional_headers=HEADERS) for _ in range(IDLE_CONNECTIONS)]
        each = (anonymous_kib(rig) - before) / IDLE_CONNECTIONS
        await asyncio.gather(*(one.close() for one in (*first, *rest)))
        return each

    assert asyncio.run(cost()) < IDLE_KIB_MAX
