"""How connections live: kept or closed, one answer after the other, bounded in time and memory."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from cordee.http.exchange import Answer
from cordee.http.reading import HEAD, IDLE
from cordee.http.request import Limits
from tests.http.serving import PATIENCE_S, TEXT, Serving, conversation, read_answer, read_to_end, statuses
from tests.rig import until

GET = b"GET /%s HTTP/1.1\r\nHost: h\r\n%s\r\n"
IMPATIENT = Limits(header_timeout_s=0.2, body_timeout_s=0.2, idle_timeout_s=1.5, connections_max=40)
CLOSED_WITHIN_S = 8.0  # the sweep looks once a second; the default limits and the drip last longer


@pytest.fixture(scope="module")
def shared() -> Iterator[Serving]:
    with Serving() as serving:
        yield serving
    assert serving.faults == []


@pytest.fixture
def serving(shared: Serving) -> Serving:
    shared.handler.forget()
    return shared


class Ear:
    """Listener of a held exchange."""

    def __init__(self) -> None:
        self.left = threading.Event()
        self.may_write = threading.Event()

    def gone(self) -> None:
        self.left.set()

    def cancelled(self) -> None:
        self.left.set()

    def writable(self) -> None:
        self.may_write.set()


def is_open(client: socket.socket) -> bool:
    client.sendall(GET % (b"still", b""))
    return read_answer(client)[0] == 200


def test_a_connection_serves_one_request_after_the_other(serving):
    with serving.connect() as client:
        for name in (b"a", b"b", b"c"):
            client.sendall(GET % (name, b""))
            assert read_answer(client)[2] == b"GET /%s|" % name


def test_connection_close_is_honoured(serving):
    with conversation(serving, GET % (b"a", b"Connection: close\r\n")) as client:
        received = read_to_end(client)
    assert statuses(received) == [200]
    assert b"\r\nconnection: close\r\n" in received


@pytest.mark.parametrize(
    ("extra", "kept"), [(b"", False), (b"Connection: keep-alive\r\n", True), (b"Connection: close\r\n", False)]
)
def test_http_1_0_closes_unless_asked_to_keep(serving, extra, kept):
    with conversation(serving, b"GET /a HTTP/1.0\r\n" + extra + b"\r\n") as client:
        status, headers, _ = read_answer(client)
        assert status == 200
        assert (headers.get(b"connection") != b"close") == kept
        if kept:
            assert is_open(client)
        else:
            assert client.recv(1) == b""


def test_a_streamed_answer_to_http_1_0_ends_with_the_connection(serving):
    with conversation(serving, b"GET /hold HTTP/1.0\r\n\r\n") as client:
        serving.handler.wait_for(1)
        exchange = serving.handler.held[0]

        def answer() -> None:
            exchange.begin(200, TEXT)
            exchange.write(b"one")
            exchange.end(b"two")

        serving.call(answer)
        received = read_to_end(client)
    assert b"transfer-encoding" not in received
    assert received.endswith(b"\r\n\r\nonetwo")


def test_a_streamed_answer_is_chunked_and_the_connection_kept(serving):
    with conversation(serving, GET % (b"hold", b"")) as client:
        serving.handler.wait_for(1)
        exchange = serving.handler.held[0]

        def answer() -> None:
            exchange.begin(200, TEXT)
            exchange.write(b"one")
            exchange.end(b"two")

        serving.call(answer)
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += client.recv(4096)
        assert received.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        assert is_open(client)


def test_pipelined_requests_are_answered_in_order(serving):
    with conversation(serving, b"".join(GET % (b"%d" % i, b"") for i in range(20))) as client:
        for i in range(20):
            assert read_answer(client)[2] == b"GET /%d|" % i


def test_a_pipelined_request_waits_for_the_answer_before_it(serving):
    with conversation(serving, GET % (b"hold", b"") + GET % (b"second", b"")) as client:
        serving.handler.wait_for(1)
        assert serving.handler.paths == [b"/hold"]
        serving.call(lambda: serving.handler.held[0].answer(Answer(200, TEXT, b"first")))
        assert read_answer(client)[2] == b"first"
        assert read_answer(client)[2] == b"GET /second|"
        assert is_open(client)


def test_a_request_that_began_behind_another_is_read_to_its_end(serving):
    second = b"POST /second HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhello"
    with conversation(serving, GET % (b"hold", b"") + second) as client:
        serving.handler.wait_for(1)
        client.sendall(b"worl")
        serving.call(lambda: serving.handler.held[0].answer(Answer(200, TEXT, b"first")))
        assert read_answer(client)[2] == b"first"
        client.sendall(b"d")
        assert read_answer(client)[2] == b"POST /second|helloworld"


def test_what_a_client_sends_during_an_answer_is_not_gathered_without_bound(serving):
    with conversation(serving, GET % (b"hold", b"") + b"GET /second HTTP/1.1\r\nHost: h\r\n") as client:
        serving.handler.wait_for(1)
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):  # the sockets' buffers fill, and nobody reads them
            client.sendall(b"".join(b"x%d: " % i + b"y" * (1 << 16) + b"\r\n" for i in range(500)))


def test_too_many_pipelined_requests_are_refused_after_the_answers_before(serving):
    with conversation(serving, GET % (b"hold", b"") + b"".join(GET % (b"%d" % i, b"") for i in range(40))) as client:
        serving.handler.wait_for(1)
        serving.call(lambda: serving.handler.held[0].answer(Answer(200, TEXT, b"")))
        assert statuses(read_to_end(client)) == [200] * 33 + [400]


def test_the_answer_to_head_has_no_body(serving):
    with conversation(
        serving, b"HEAD /a HTTP/1.1\r\nHost: h\r\n\r\n" + GET % (b"b", b"Connection: close\r\n")
    ) as client:
        received = read_to_end(client)
    first, _, second = received.partition(b"\r\n\r\n")
    assert b"content-length: 8" in first
    assert second.startswith(b"HTTP/1.1 200 ")


def test_100_continue_comes_before_the_body_is_sent(serving):
    head = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with conversation(serving, head) as client:
        assert read_answer(client)[0] == 100
        client.sendall(b"hello")
        assert read_answer(client)[2] == b"POST /a|hello"


def test_100_continue_is_not_said_in_the_middle_of_another_answer(serving):
    head = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    with conversation(serving, GET % (b"hold", b"") + head) as client:
        serving.handler.wait_for(1)
        serving.call(lambda: serving.handler.held[0].answer(Answer(200, TEXT, b"first")))
        assert read_answer(client)[2] == b"first"
        client.sendall(b"hello")
        assert read_answer(client)[2] == b"POST /a|hello"


def test_100_continue_is_not_said_to_http_1_0(serving):
    head = b"POST /a HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello"
    with conversation(serving, head) as client:
        assert statuses(read_to_end(client).replace(b"HTTP/1.0", b"HTTP/1.1")) == [200]


def test_a_refused_request_with_a_large_body_is_answered_before_the_body_is_there(serving):
    with conversation(serving, b"POST /no HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n") as client:
        assert statuses(read_to_end(client)) == [403]
    assert serving.handler.handled == []


def test_a_refused_request_with_a_small_body_keeps_its_connection(serving):
    with conversation(serving, b"POST /no HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello") as client:
        assert read_answer(client)[0] == 403
        assert is_open(client)


def test_a_refused_request_whose_body_has_no_length_is_not_read(serving):
    with conversation(serving, b"POST /no HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n") as client:
        assert statuses(read_to_end(client)) == [403]


@pytest.mark.parametrize("how", ["closes", "resets", "half-closes"])
def test_whoever_answers_hears_that_the_client_has_gone(serving, how):
    ear = Ear()
    with conversation(serving, GET % (b"hold", b"")) as client:
        serving.handler.wait_for(1)
        exchange = serving.handler.held[0]
        serving.call(lambda: setattr(exchange, "listener", ear))
        if how == "resets":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        if how == "half-closes":
            client.shutdown(socket.SHUT_WR)
        else:
            client.close()
        assert ear.left.wait(PATIENCE_S)
    assert not exchange.is_open
    serving.call(lambda: (exchange.begin(200, TEXT), exchange.write(b"x"), exchange.end(), exchange.abort()))


def test_a_slow_reader_is_noticed_and_told_when_it_has_read(serving):
    ear = Ear()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE_S)
        client.connect(("127.0.0.1", serving.port))
        client.sendall(GET % (b"hold", b""))
        serving.handler.wait_for(1)
        exchange = serving.handler.held[0]
        written: list[int] = []

        def flood() -> None:
            exchange.listener = ear
            exchange.begin(200, TEXT)
            while not exchange.is_slow and len(written) < 10_000:
                exchange.write(b"x" * 65536)
                written.append(65536)

        serving.call(flood)
        assert exchange.is_slow
        assert sum(written) < 64 << 20
        assert not ear.may_write.is_set()
        serving.call(lambda: None)
        received = 0
        while not ear.may_write.is_set():  # it may be said a little after the last byte has come
            if select.select([client], [], [], 0.05)[0]:
                received += len(client.recv(1 << 20))
        assert not exchange.is_slow
        serving.call(exchange.end)
        while received < sum(written):
            received += len(client.recv(1 << 20))


def test_an_aborted_answer_cannot_be_taken_for_a_whole_one(serving):
    with conversation(serving, GET % (b"hold", b"")) as client:
        serving.handler.wait_for(1)
        exchange = serving.handler.held[0]
        serving.call(lambda: (exchange.begin(200, TEXT), exchange.write(b"half")))
        assert b"half" in client.recv(4096)
        serving.call(exchange.abort)
        with suppress(ConnectionResetError):
            assert client.recv(4096) == b""


def test_a_status_without_a_name_is_passed_on(serving):
    with conversation(serving, GET % (b"hold", b"")) as client:
        serving.handler.wait_for(1)
        serving.call(lambda: serving.handler.held[0].answer(Answer(499, TEXT, b"x")))
        assert read_answer(client)[0] == 499


def test_stopping_ends_idle_connections_and_lets_answers_finish():
    with Serving() as serving, serving.connect() as idle, conversation(serving, GET % (b"hold", b"")) as busy:
        assert is_open(idle)
        serving.handler.wait_for(2)
        serving.call(serving.server.stop_accepting)
        assert idle.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            serving.connect()
        serving.call(lambda: serving.handler.held[0].answer(Answer(200, TEXT, b"whole")))
        status, headers, body = read_answer(busy)
        assert (status, body, headers[b"connection"]) == (200, b"whole", b"close")
        assert busy.recv(1) == b""
        assert serving.faults == []


def test_whoever_was_connected_when_accepting_stops_is_answered():
    with Serving() as serving:
        late: list[socket.socket] = []

        def crowd_comes_last() -> None:
            for _ in range(5):  # the loop is here, so nobody is accepted meanwhile
                late.append(serving.connect())
                late[-1].sendall(GET % (b"late", b""))
            late.append(serving.connect())  # and one that has nothing to say
            serving.server.stop_accepting()

        serving.call(crowd_comes_last)
        for client in late[:-1]:
            status, headers, body = read_answer(client)
            assert (status, body, headers[b"connection"]) == (200, b"GET /late|", b"close")
            assert client.recv(1) == b""
            client.close()
        assert late[-1].recv(1) == b"", "it is closed by the sweep"
        late[-1].close()
        with pytest.raises(ConnectionRefusedError):
            serving.connect()
        assert serving.faults == []


def test_beyond_the_limit_a_connection_is_told_so_and_nothing_it_sends_is_read():
    with Serving(Limits(connections_max=1)) as serving, serving.connect() as first:
        assert is_open(first)
        with serving.connect() as second:
            with suppress(ConnectionError):
                second.sendall(GET % (b"second", b""))
            with suppress(ConnectionResetError):
                assert statuses(read_to_end(second)) == [503]
        assert serving.handler.paths == [b"/still"]
        first.close()
        until(lambda: not serving.server.connections, "the first connection to be forgotten")
        with serving.connect() as third:
            assert is_open(third)
        assert serving.faults == []


SLOW = {
    "nothing after the first letter": (b"G", 408),
    "half a head": (b"GET / HTTP/1.1\r\nHost: h\r\n", 408),
    "half a body": (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf", 408),
    "half a chunk": (b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf", 408),
    "nothing at all": (b"", None),
    "nothing after an answer": (GET % (b"a", b""), 200),
}


def test_slow_clients_are_closed_in_time():
    """All at once, because the sweep takes a second."""
    with Serving(IMPATIENT) as serving:
        started = time.monotonic()
        clients = {}
        for name, (data, _) in SLOW.items():
            clients[name] = serving.connect()
            clients[name].sendall(data)
        drip = serving.connect()
        drip.sendall(b"GET / HTTP/1.1\r\n")
        dripping = threading.Thread(target=_drip, args=(drip,))
        dripping.start()
        for name, (_, status) in SLOW.items():
            received = read_to_end(clients[name]) if status else clients[name].recv(1)
            assert statuses(received) == ([status] if status else []), name
            clients[name].close()
        assert statuses(read_to_end(drip)) == [408]
        assert time.monotonic() - started < CLOSED_WITHIN_S
        drip.close()
        dripping.join()
        assert serving.faults == []


def _drip(client: socket.socket) -> None:
    """A header that never ends, a byte at a time."""
    with suppress(OSError):
        for _ in range(400):
            client.sendall(b"x")
            threading.Event().wait(0.05)


def test_after_a_request_that_began_behind_another_the_connection_is_idle(serving):
    with conversation(serving, GET % (b"hold", b"") + b"GET /second HTTP/1.1\r\n") as client:
        serving.handler.wait_for(1)
        serving.call(lambda: serving.handler.held[0].answer(Answer(200, TEXT, b"first")))
        assert read_answer(client)[2] == b"first"
        mine = client.getsockname()
        (connection,) = (c for c in serving.server.connections if c.transport.get_extra_info("peername") == mine)
        assert connection.state == HEAD
        client.sendall(b"Host: h\r\n\r\n")
        assert read_answer(client)[2] == b"GET /second|"
        assert connection.state == IDLE
