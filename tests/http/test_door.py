"""How many may come in: by address, by descriptors, and what happens to the others meanwhile. Real sockets."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from cordee.http.request import Limits
from tests.http.serving import Serving, read_answer, read_to_end, statuses
from tests.rig import until

STARVED = Path(__file__).with_name("starved.py")
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def test_an_address_has_as_many_connections_as_it_may_and_others_have_theirs() -> None:
    with Serving(Limits(connections_per_address_max=3)) as serving, ExitStack() as stack:
        mine = [stack.enter_context(serving.connect()) for _ in range(3)]
        for client in mine:
            client.sendall(GET)
            assert read_answer(client)[0] == 200
        with serving.connect() as fourth:
            refused = read_to_end(fourth)
        assert statuses(refused) == [429]
        assert b"your address has 3 connections" in refused
        with socket.create_connection(("127.0.0.1", serving.port), 5, source_address=("127.0.0.2", 0)) as other:
            other.sendall(GET)
            assert read_answer(other)[0] == 200
        mine.pop().close()
        until(lambda: serving.server.door.by_address == {"127.0.0.1": 2}, "the connection to be forgotten")
        with serving.connect() as again:
            again.sendall(GET)
            assert read_answer(again)[0] == 200
    assert serving.faults == []


def test_without_a_limit_addresses_are_not_counted() -> None:
    with Serving() as serving, serving.connect() as client:
        client.sendall(GET)
        assert read_answer(client)[0] == 200
        assert serving.server.door.by_address == {}


def test_a_limit_that_is_lowered_while_it_runs_counts_for_those_who_come() -> None:
    with Serving(Limits()) as serving, serving.connect() as client:
        client.sendall(GET)
        assert read_answer(client)[0] == 200
        serving.call(lambda: serving.server.follow(Limits(connections_max=1)))
        with serving.connect() as second:
            assert statuses(read_to_end(second)) == [503]
        client.sendall(GET)
        assert read_answer(client)[0] == 200


@contextmanager
def starved(descriptors: int, connections: int) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, str(STARVED), str(descriptors), str(connections)], stdout=subprocess.PIPE
    ) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
            assert server.poll() is None, "the server has ended"
        finally:
            server.kill()


def count(port: int) -> int:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request("GET", "/count")
        return int(connection.getresponse().read())


@pytest.mark.e2e
@pytest.mark.parametrize("connections", [10, 10_000])  # the limit stands before the descriptors end, and behind
def test_without_descriptors_streams_go_on_and_accepting_resumes_by_itself(connections: int) -> None:
    with starved(40, connections) as port, ExitStack() as stack:
        stream = stack.enter_context(socket.create_connection(("127.0.0.1", port), 5))
        stream.sendall(b"GET /stream HTTP/1.1\r\nHost: h\r\n\r\n")
        assert stream.recv(65536)
        crowd = [stack.enter_context(socket.create_connection(("127.0.0.1", port), 5)) for _ in range(200)]
        for _ in range(5):
            assert stream.recv(65536), "the stream has ended"
        for one in crowd:
            one.close()

        def alone() -> bool:
            try:
                return count(port) == 2
            except (OSError, http.client.HTTPException, ValueError):
                return False

        until(alone, "a new client to be served")
        assert stream.recv(65536)
