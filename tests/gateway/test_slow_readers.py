"""A client that does not read holds a bounded amount of memory, holds up no worker, and is cut off visibly when it is too much."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from cordee.domain.chunk import TokenLogprobs
from cordee.gateway.sinks import GATHERED_BYTES_MAX, GATHERED_CHARS_MAX
from cordee.ports import Receiver
from tests.gateway.doubles import KEY, Gateway
from tests.gateway.kept.test_sink import PIECES, Page, sink_on
from tests.rig import until

BUFFER = 16 * 1024  # of the kernel, asked for by the client: it doubles it
HELD_MAX = 64 * 1024
BATCH = 100


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway() as gateway:
        yield gateway
    assert gateway.faults == []


class Slow:
    """A stream whose client reads nothing until it is told to."""

    def __init__(self, gateway: Gateway) -> None:
        self.receivers: list[Receiver] = []
        gateway.worker.act = self.begun
        self.gateway = gateway
        self.sent = 0
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", gateway.port))
        body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
        self.socket.sendall(head.encode() + body)
        until(lambda: bool(self.receivers), "the call to begin")

    def begun(self, receiver: Receiver, attempt: int) -> bool:
        self.receivers.append(receiver)
        return True

    def tokens(self, count: int) -> None:
        def push() -> None:
            for index in range(self.sent, self.sent + count):
                self.receivers[0].token(0, index, ord("x"), None)

        self.gateway.call(push)
        self.sent += count

    def held(self) -> int:
        """Bytes that the gateway holds for this client, beside the kernel's."""

        def count() -> int:
            return sum(one.transport.get_write_buffer_size() for one in self.gateway.server.connections)

        held: int = self.gateway.call(count)
        return held

    def fill(self) -> None:
        """Until the connection is full."""
        connections = self.gateway.server.connections
        for _ in range(10_000):
            self.tokens(BATCH)
            if any(one.paused for one in connections):
                return
        raise AssertionError("the connection is never full")


def test_what_is_held_is_bounded_and_beyond_it_the_client_is_cut_off(gateway: Gateway) -> None:
    with closing((slow := Slow(gateway)).socket):
        slow.fill()
        assert slow.held() <= HELD_MAX - GATHERED_CHARS_MAX
        before = slow.held()
        slow.tokens(GATHERED_CHARS_MAX - BATCH)
        assert slow.held() == before  # gathered, not written
        assert not gateway.worker.cancelled.is_set()
        slow.tokens(BATCH + 1)
        until(gateway.worker.cancelled.is_set, "the worker to be told that nobody listens")
        received = read_to_end(slow.socket)
        assert b"[DONE]" not in received
        assert not received.endswith(b"0\r\n\r\n")  # it cannot take what it has for a whole answer
    until(lambda: gateway.call(lambda: len(gateway.watch.open)) == 0, "the call to end")


def test_who_reads_again_in_time_gets_everything(gateway: Gateway) -> None:
    with closing((slow := Slow(gateway)).socket):
        slow.fill()
        slow.tokens(GATHERED_CHARS_MAX // 2)
        content, rest = "", b""
        while len(content) < slow.sent:
            data = slow.socket.recv(65536)
            assert data, "the connection has ended"
            lines, _, rest = (rest + data).rpartition(b"\n")
            content += _content(lines + b"\n")
        assert content == "x" * slow.sent
    until(lambda: gateway.call(lambda: len(gateway.watch.open)) == 0, "the call to end")


def read_to_end(client: socket.socket) -> bytes:
    received = b""
    try:
        while data := client.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def _content(received: bytes) -> str:
    events = [
        json.loads(line[6:])
        for line in received.split(b"\n")[:-1]
        if line.startswith(b"data: {") and line.endswith(b"}")
    ]
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


def test_gathered_logprobs_are_bounded_over_all_choices() -> None:
    page = Page(slow_from=3)
    sink = sink_on(page, 3, logprobs=True)
    others = tuple((other, -2.0) for other in range(len(PIECES)))
    for _ in range(1000):
        for choice in range(3):
            sink.token(choice, 0, TokenLogprobs(-1.0, others))
        assert sum(map(len, sink._held)) <= GATHERED_BYTES_MAX + max(map(len, sink._held), default=0)
        assert sum(map(len, sink.logprobs or ())) <= 1, "they wait as objects, which take many times the memory"
        if page.ended:
            return
    raise AssertionError("it is never enough")
