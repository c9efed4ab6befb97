"""In a crowd the loop turns in time, and first come is first served."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from cordee.http import reading, turn
from cordee.http.turn import Turn
from tests.http.serving import Serving, conversation, read_answer, statuses

GET = b"GET /%s HTTP/1.1\r\nHost: h\r\n\r\n"


class Loop:
    """What is to run soon, and no more of an event loop."""

    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def call_soon(self, what: Callable[[], None]) -> None:
        self.soon.append(what)

    def turns(self) -> None:
        due, self.soon = self.soon, []
        for what in due:
            what()


class Guest:
    """Begins a request when it is released."""

    def __init__(self, turn: Turn, begun: list[Guest]) -> None:
        self._turn = turn
        self._begun = begun

    def release(self) -> None:
        self._turn.begun += 1
        self._begun.append(self)


def test_as_many_begin_in_a_turn_as_may_and_the_others_in_their_order():
    loop = Loop()
    one = Turn(loop)  # type: ignore[arg-type]
    one.begun = turn.REQUESTS_MAX
    begun: list[Guest] = []
    guests = [Guest(one, begun) for _ in range(2 * turn.REQUESTS_MAX + 1)]
    for guest in guests:
        one.hold(guest)
    for expected in (turn.REQUESTS_MAX, 2 * turn.REQUESTS_MAX, len(guests)):
        assert len(loop.soon) == 1
        loop.turns()
        assert len(begun) == expected
    assert loop.soon == []
    assert begun == guests


def test_whoever_comes_while_others_wait_waits_behind_them():
    loop = Loop()
    one = Turn(loop)  # type: ignore[arg-type]
    one.begun = turn.REQUESTS_MAX
    begun: list[Guest] = []
    guests = [Guest(one, begun) for _ in range(turn.REQUESTS_MAX + 2)]
    for guest in guests[:-1]:
        one.hold(guest)
    loop.turns()
    assert one.begun >= turn.REQUESTS_MAX, "a newcomer is held too"
    one.hold(guests[-1])
    loop.turns()
    assert begun == guests
    assert loop.soon == []


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request a turn."""
    monkeypatch.setattr(turn, "REQUESTS_MAX", 1)
    monkeypatch.setattr(reading, "REQUESTS_MAX", 1)


@pytest.mark.usefixtures("hasty")
def test_every_request_is_answered_when_only_one_begins_in_a_turn():
    with Serving() as serving:
        clients = [serving.connect() for _ in range(20)]
        for number in range(3):
            for client in clients:
                client.sendall(GET % b"%d" % number)
            for client in clients:
                assert read_answer(client)[2] == b"GET /%d|" % number
        for client in clients:
            client.close()
        assert serving.faults == []


@pytest.mark.usefixtures("hasty")
def test_what_is_sent_in_pieces_or_ahead_comes_whole_and_in_order():
    body = b"x" * 300_000
    with Serving() as serving:
        busy = [serving.connect() for _ in range(5)]
        with serving.connect() as client:
            for one in busy:
                one.sendall(GET % b"busy" * 5)
            client.sendall(b"POST /p HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body))
            for at in range(0, len(body), 50_000):
                client.sendall(body[at : at + 50_000])
            client.sendall(GET % b"a" + GET % b"b")
            assert read_answer(client)[2] == b"POST /p|" + body
            assert read_answer(client)[2] == b"GET /a|"
            assert read_answer(client)[2] == b"GET /b|"
        for one in busy:
            for _ in range(5):
                assert read_answer(one)[0] == 200
            one.close()
        assert serving.faults == []


def test_a_client_that_leaves_while_it_is_held_is_forgotten():
    with Serving() as serving:
        full = serving.server.turn

        def fill() -> None:
            full.begun = turn.REQUESTS_MAX
            asyncio.get_event_loop().call_soon(None.__class__)  # nothing; the loop turns once

        serving.call(fill)
        client = serving.connect()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.sendall(GET % b"gone")
        client.close()
        with conversation(serving, GET % b"here") as other:
            assert read_answer(other)[2] == b"GET /here|"
        assert serving.faults == []


@pytest.mark.usefixtures("hasty")
def test_a_doubtful_request_is_refused_all_the_same():
    with Serving() as serving, conversation(serving, GET % b"a" + b"nonsense\r\n\r\n") as client:
        received = b""
        while data := client.recv(65536):
            received += data
        assert statuses(received) == [200, 400]
