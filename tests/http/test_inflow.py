"""Bodies that are pushed on as they come: in order, bounded, held back while nobody can take more, and never mistaken for a whole one."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from cordee.http.exchange import Answer, Exchange
from cordee.http.inflow import Inflow
from cordee.http.request import Limits, Request
from tests.http.serving import PATIENCE_S, TEXT, Handler, Serving, read_answer, read_to_end, statuses

BYTES_MAX = 4 * 1024 * 1024
LIMITS = Limits(body_bytes_max=1024)
IMPATIENT = Limits(body_bytes_max=1024, body_timeout_s=0.2)


class Sink:
    """Takes one body; answers with its length when it is whole, if it is to."""

    def __init__(self, request: Request, exchange: Exchange, *, answers: bool = True) -> None:
        self.request, self.exchange, self.answers = request, exchange, answers
        self.pieces: list[bytes] = []
        self.ended, self.left = threading.Event(), threading.Event()
        exchange.listener = self

    def data(self, data: bytes) -> None:
        self.pieces.append(data)

    def whole(self) -> None:
        self.ended.set()
        if self.answers:
            self.exchange.answer(Answer(200, TEXT, b"%d" % sum(map(len, self.pieces))))

    def gone(self) -> None:
        self.left.set()

    def cancelled(self) -> None:
        self.left.set()

    def writable(self) -> None:
        pass


class Taking(Handler):
    """Streams the bodies of /up…; /up/held is not taken until the test says so, /up/early is answered before its body is there,
    /up/begun has an answer that has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.sinks: list[Sink] = []

    def admit(self, request: Request) -> Answer | None:
        if request.path.startswith(b"/up"):
            length = request.headers.get(b"content-length")
            request.inflow = Inflow(BYTES_MAX, int(length) if length else None)
        return super().admit(request)

    def handle(self, request: Request, exchange: Exchange) -> None:
        if request.inflow is None:
            super().handle(request, exchange)
            return
        sink = Sink(request, exchange, answers=request.path not in (b"/up/early", b"/up/begun"))
        with self.arrived:
            self.sinks.append(sink)
            self.handled.append(request)
            self.arrived.notify_all()
        if request.path != b"/up/held":
            request.inflow.open(sink)
        if request.path == b"/up/early":
            exchange.answer(Answer(200, TEXT, b"enough"))
        if request.path == b"/up/begun":
            exchange.begin(200, TEXT)


@pytest.fixture
def serving() -> Iterator[Serving]:
    serving = Serving(LIMITS)
    serving.handler = Taking()
    with serving:
        yield serving
    assert serving.faults == []


def sinks(serving: Serving) -> list[Sink]:
    assert isinstance(serving.handler, Taking)
    return serving.handler.sinks


def put(length: int, path: bytes = b"/up", more: bytes = b"") -> bytes:
    return b"PUT %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n%s\r\n" % (path, length, more)


CHUNKED = b"PUT /up HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_a_body_beyond_the_ordinary_limit_comes_in_pieces_and_the_connection_is_kept(serving):
    with serving.connect() as client:
        for _ in range(2):
            client.sendall(put(1_000_000) + b"x" * 1_000_000)
            assert read_answer(client)[::2] == (200, b"1000000")
        client.sendall(b"GET /still HTTP/1.1\r\nHost: h\r\n\r\n")
        assert read_answer(client)[0] == 200
    assert len(sinks(serving)[0].pieces) > 1
    assert sinks(serving)[0].request.body == b""


def test_a_chunked_body_comes_as_what_it_holds(serving):
    with serving.connect() as client:
        client.sendall(CHUNKED + b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nTrailer: t\r\n\r\n")
        assert read_answer(client)[::2] == (200, b"11")
    assert b"".join(sinks(serving)[0].pieces) == b"hello world"


def test_an_empty_body_is_whole(serving):
    with serving.connect() as client:
        client.sendall(CHUNKED + b"0\r\n\r\n")
        assert read_answer(client)[::2] == (200, b"0")


def test_who_waits_for_100_gets_it_before_the_body(serving):
    with serving.connect() as client:
        client.sendall(put(5, more=b"Expect: 100-continue\r\n"))
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert read_answer(client)[::2] == (200, b"5")


def test_who_waits_for_100_and_is_answered_at_once_gets_the_answer_only(serving):
    with serving.connect() as client:
        client.sendall(put(5, b"/up/early", b"Expect: 100-continue\r\n"))
        received = read_to_end(client)
    assert statuses(received) == [200]
    assert received.endswith(b"enough")


def test_an_answer_before_the_end_of_the_body_ends_the_connection_and_hides_no_request(serving):
    with serving.connect() as client:
        client.sendall(put(100, b"/up/early") + b"x" * 10)
        client.sendall(b"GET /canary HTTP/1.1\r\nHost: h\r\n\r\n")
        received = read_to_end(client)
    assert statuses(received) == [200]
    assert b"connection: close" in received
    assert b"/canary" not in serving.handler.paths


def test_nothing_is_read_of_a_body_that_nobody_takes(serving):
    with serving.connect() as client:
        client.sendall(put(BYTES_MAX, b"/up/held"))
        serving.handler.wait_for(1)
        client.setblocking(False)
        sent = 0
        with suppress(BlockingIOError):
            while sent < BYTES_MAX:
                sent += client.send(b"x" * 65536)
        assert sent < BYTES_MAX
        sink = sinks(serving)[0]
        client.settimeout(PATIENCE_S)
        assert sink.request.inflow is not None
        assert sink.request.inflow.size < 2 * 1024 * 1024
        serving.call(lambda: sink.request.inflow.open(sink))
        client.sendall(b"x" * (BYTES_MAX - sent))
        assert read_answer(client)[::2] == (200, b"%d" % BYTES_MAX)


def test_a_held_body_goes_on_where_it_was(serving):
    with serving.connect() as client:
        client.sendall(put(20, b"/up/held") + b"0123456789")
        serving.handler.wait_for(1)
        sink = sinks(serving)[0]
        inflow = sink.request.inflow
        assert inflow is not None
        serving.call(lambda: inflow.open(sink))
        serving.call(lambda: inflow.pause())
        client.sendall(b"abcdefghij")
        serving.call(lambda: inflow.resume())
        assert read_answer(client)[::2] == (200, b"20")
    assert b"".join(sink.pieces) == b"0123456789abcdefghij"


@pytest.mark.parametrize("size", [3, 300_000])
def test_a_body_behind_another_request_waits_its_turn(serving, size):
    with serving.connect() as client:
        client.sendall(b"GET /hold HTTP/1.1\r\nHost: h\r\n\r\n")
        serving.handler.wait_for(1)
        sender = threading.Thread(
            target=client.sendall, args=(put(size) + b"x" * size + b"GET /after HTTP/1.1\r\nHost: h\r\n\r\n",)
        )
        sender.start()
        assert sinks(serving) == []
        serving.call(lambda: serving.handler.held[0].answer(Answer(200, TEXT, b"first")))
        assert read_answer(client)[2] == b"first"
        assert read_answer(client)[2] == b"%d" % size
        assert read_answer(client)[2] == b"GET /after|"
        sender.join()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (put(BYTES_MAX + 1), 413),
        (CHUNKED + b"%x\r\n" % (BYTES_MAX + 1) + b"x" * (BYTES_MAX + 1), 413),
        (CHUNKED + b"5\r\nhelloX\r\n", 400),
        (CHUNKED + b"1\r\nx\r\n" * 10_000 + b"1;" + b"e" * 80_000, 400),
        (CHUNKED + b"0\r\n" + b"T: t\r\n" * 10_000, 431),
    ],
)
def test_a_body_that_cannot_be_read_is_never_whole(serving, sent, status):
    with serving.connect() as client:
        threading.Thread(target=lambda: _send(client, sent)).start()
        assert statuses(read_to_end(client)) == [status]
    for sink in sinks(serving):
        assert sink.left.wait(PATIENCE_S)
        assert not sink.ended.is_set()


def _send(client: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # it is refused meanwhile, and that is read
        client.sendall(data)


def test_a_fault_behind_the_beginning_of_an_answer_breaks_it_off(serving):
    with serving.connect() as client:
        client.sendall(b"PUT /up/begun HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        serving.handler.wait_for(1)
        client.sendall(b"nonsense\r\n")
        received = read_to_end(client)
    assert statuses(received) in ([], [200])
    assert not received.endswith(b"0\r\n\r\n")
    assert sinks(serving)[0].left.wait(PATIENCE_S)


def test_a_faulty_body_behind_another_request_costs_only_itself(serving):
    with serving.connect() as client:
        client.sendall(b"GET /hold HTTP/1.1\r\nHost: h\r\n\r\n" + CHUNKED + b"5\r\nhelloX\r\n")
        serving.handler.wait_for(1)
        serving.call(lambda: serving.handler.held[0].answer(Answer(200, TEXT, b"first")))
        assert statuses(read_to_end(client)) == [200, 400]
    assert sinks(serving) == []


def test_whoever_takes_a_body_hears_that_the_client_has_gone(serving):
    with serving.connect() as client:
        client.sendall(put(100) + b"x" * 10)
        serving.handler.wait_for(1)
    assert sinks(serving)[0].left.wait(PATIENCE_S)
    assert not sinks(serving)[0].ended.is_set()


def test_a_body_that_comes_too_slowly_is_refused_in_time(serving):
    serving.call(lambda: serving.server.follow(IMPATIENT))
    with serving.connect() as client:
        client.sendall(put(100) + b"x")
        assert statuses(read_to_end(client)) == [408]
    assert sinks(serving)[0].left.is_set()


def test_time_in_which_a_client_is_held_back_is_not_its_own():
    inflow = Inflow(0, None)
    inflow.take(b"x")  # nobody takes it: held
    assert not inflow.is_late(100.0, 1.0)
    inflow.is_held = False
    assert not inflow.is_late(100.9, 1.0)
    assert inflow.is_late(101.1, 1.0)


def test_a_refused_request_with_a_streamed_body_is_answered_before_it(serving):
    with serving.connect() as client:
        client.sendall(b"PUT /no HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n")
        assert statuses(read_to_end(client)) in ([403], [413])


def test_an_answer_of_known_length_says_it_and_keeps_the_connection(serving):
    with serving.connect() as client:
        client.sendall(b"GET /hold HTTP/1.1\r\nHost: h\r\n\r\n")
        serving.handler.wait_for(1)
        exchange = serving.handler.held[0]

        def write() -> None:
            exchange.begin_sized(206, TEXT, 5)
            exchange.write(b"he")
            exchange.write(b"llo")
            exchange.end()

        serving.call(write)
        status, headers, body = read_answer(client)
        assert (status, headers[b"content-length"], body) == (206, b"5", b"hello")
        client.sendall(b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        assert read_answer(client)[0] == 200


def test_the_head_of_a_streamed_answer_has_no_body(serving):
    with serving.connect() as client:
        client.sendall(b"HEAD /hold HTTP/1.1\r\nHost: h\r\n\r\n")
        serving.handler.wait_for(1)
        exchange = serving.handler.held[0]

        def write() -> None:
            exchange.begin_sized(200, TEXT, 5)
            exchange.write(b"hello")
            exchange.end()

        serving.call(write)
        client.sendall(b"GET /x HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        received = read_to_end(client)
    assert b"hello" not in received
    assert statuses(received) == [200, 200]
