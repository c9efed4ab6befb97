"""Who gets which connection, and who hears that one did not come up. Real sockets, and dials whose end the test decides."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest
import uvloop

from cordee.http import pool as pools
from cordee.http.client import Exchange
from cordee.http.pool import ConnectionPool, Line
from tests.http.test_client import OK, REQUEST, Recorder

T = TypeVar("T")
PATIENCE_S = 30.0
REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
RESET = ConnectionResetError(errno.ECONNRESET, "Connection reset by peer")
ANSWER = OK + b"Content-Length: 2\r\n\r\nok"


def run(what: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE_S):
            return await what()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


async def settle() -> None:
    """Whatever can happen by itself has happened."""
    for _ in range(10):
        await asyncio.sleep(0)


class Upstream:
    """A server that answers when it is told to, in the order in which requests came; connections too."""

    def __init__(self) -> None:
        self.connections: list[asyncio.StreamWriter] = []
        self.requests: list[asyncio.StreamWriter] = []
        self.dials: list[asyncio.Future[None]] = []  # those whose end the test decides
        self.decides = False

    async def __aenter__(self) -> Upstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.pool = ConnectionPool("127.0.0.1", self._server.sockets[0].getsockname()[1], None, PATIENCE_S)
        create = asyncio.get_running_loop().create_connection

        class Loop:
            """The running loop, with dials that wait."""

            create_task = staticmethod(asyncio.get_running_loop().create_task)

            @staticmethod
            async def create_connection(*arguments: Any, **named: Any) -> Any:
                if self.decides:
                    self.dials.append(asyncio.get_running_loop().create_future())
                    await self.dials[-1]
                return await create(*arguments, **named)

        self.pool._loop = Loop()  # type: ignore[assignment]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests.append(writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    def ask(self) -> tuple[Recorder, Exchange]:
        recorder = Recorder()
        return recorder, self.pool.send(REQUEST, recorder)

    async def asked(self, count: int) -> None:
        while len(self.requests) < count:
            await asyncio.sleep(0.001)

    async def answer(self, *recorders: Recorder) -> None:
        """As many requests as there are recorders, whose they are to be."""
        await self.asked(len(recorders))
        for _ in recorders:
            self.requests.pop(0).write(ANSWER)
        for recorder in recorders:
            await recorder.over.wait()
            assert recorder.ends == ["complete"]

    async def fail(self, dial: int, error: Exception) -> None:
        self.dials[dial].set_exception(error)
        await settle()


def test_the_connection_that_was_used_last_is_used_first():
    async def go() -> None:
        async with Upstream() as upstream:
            asked = [upstream.ask()[0] for _ in range(2)]
            await upstream.asked(2)
            for _ in asked:
                last = upstream.requests[0]
                upstream.requests.pop(0).write(ANSWER)
                while len(upstream.pool._idle) < 2 - len(upstream.requests):
                    await asyncio.sleep(0.001)
            again, _ = upstream.ask()
            await upstream.asked(1)
            assert upstream.requests == [last]
            assert len(upstream.connections) == 2
            await upstream.answer(again)
            assert all(recorder.ends == ["complete"] for recorder in asked)

    run(go)


def test_whoever_waits_first_gets_the_first_connection_that_is_free_or_new():
    async def go() -> None:
        async with Upstream() as upstream:
            busy, _ = upstream.ask()
            await upstream.asked(1)
            upstream.decides = True
            first, second = upstream.ask()[0], upstream.ask()[0]
            await settle()
            assert len(upstream.dials) == 2
            await upstream.answer(busy)  # its connection is free before a new one has come up
            await upstream.asked(1)
            await upstream.answer(first)
            await upstream.asked(1)
            await upstream.answer(second)
            assert len(upstream.connections) == 1
            for dial in upstream.dials:
                dial.set_result(None)
            while len(upstream.connections) < 3:
                await asyncio.sleep(0.001)

    run(go)


def test_no_more_connections_are_opened_at_once_than_may_be(monkeypatch):
    monkeypatch.setattr(pools, "DIALLING_MAX", 3)

    async def go() -> None:
        async with Upstream() as upstream:
            upstream.decides = True
            asked = [upstream.ask()[0] for _ in range(10)]
            await settle()
            assert len(upstream.dials) == 3
            upstream.dials[0].set_result(None)
            await upstream.asked(1)
            assert len(upstream.dials) == 4
            upstream.decides = False
            for dial in upstream.dials[1:]:
                dial.set_result(None)
            await upstream.answer(asked[0])
            while not all(recorder.ends for recorder in asked):
                while upstream.requests:
                    upstream.requests.pop().write(ANSWER)
                await asyncio.sleep(0.001)

    run(go)


@pytest.mark.parametrize("error", [REFUSED, socket.gaierror(-2, "Name or service not known"), TimeoutError()])
def test_when_nobody_is_there_all_who_waited_are_told_and_later_ones_try_anew(error, monkeypatch):
    monkeypatch.setattr(pools, "DIALLING_MAX", 1)

    async def go() -> None:
        async with Upstream() as upstream:
            upstream.decides = True
            asked = [upstream.ask()[0] for _ in range(2)]
            await settle()
            await upstream.fail(0, error)  # it was begun when only the first one waited
            assert [one.ends for one in asked] == [["broken"], []]
            more = [upstream.ask()[0] for _ in range(3)]
            await upstream.fail(1, error)  # begun when the second one waited
            assert [one.ends for one in asked] == [["broken"], ["broken"]]
            assert all(one.ran is False for one in asked)
            upstream.dials[2].set_exception(error)
            later, _ = upstream.ask()
            await settle()
            assert [one.ends for one in more] == [["broken"]] * 3
            upstream.dials[3].set_result(None)
            await upstream.asked(1)
            await upstream.answer(later)

    run(go)


@pytest.mark.parametrize(
    "error", [RESET, OSError(errno.EMFILE, "Too many open files"), ssl.SSLError(1, "handshake"), ConnectionResetError()]
)
def test_one_connection_that_fails_costs_only_whoever_would_have_had_it(error):
    async def go() -> None:
        async with Upstream() as upstream:
            upstream.decides = True
            first, second, third = (upstream.ask()[0] for _ in range(3))
            await settle()
            await upstream.fail(2, error)
            assert [one.ends for one in (first, second, third)] == [["broken"], [], []]
            upstream.dials[0].set_result(None)
            await upstream.asked(1)
            await upstream.answer(second)
            await upstream.asked(1)
            await upstream.answer(third)

    run(go)


def test_a_refusal_from_before_another_connection_came_up_is_not_everybodys():
    async def go() -> None:
        async with Upstream() as upstream:
            upstream.decides = True
            first, second, third = (upstream.ask()[0] for _ in range(3))
            await settle()
            upstream.dials[0].set_result(None)
            await upstream.asked(1)
            await upstream.fail(1, REFUSED)
            assert [one.ends for one in (first, second, third)] == [[], ["broken"], []]
            await upstream.answer(first)
            await upstream.asked(1)
            await upstream.answer(third)

    run(go)


def test_who_gives_up_waiting_is_passed_over_and_hears_nothing():
    async def go() -> None:
        async with Upstream() as upstream:
            upstream.decides = True
            (first, given_up), (second, _) = upstream.ask(), upstream.ask()
            await settle()
            given_up.cancel()
            upstream.dials[0].set_result(None)
            await upstream.asked(1)
            await upstream.answer(second)
            (third, also), _ = upstream.ask(), None
            await upstream.asked(1)
            also.cancel()
            await upstream.fail(1, REFUSED)
            assert first.ends == third.ends == []

    run(go)


def test_what_one_does_when_it_is_told_of_a_failure_may_end_others():
    async def go() -> None:
        async with Upstream() as upstream:
            upstream.decides = True

            class Ending(Recorder):
                def broken(self, cause: str, *, ran: bool) -> None:
                    super().broken(cause, ran=ran)
                    other.cancel()

            ending = Ending()
            upstream.pool.send(REQUEST, ending)
            silent, other = upstream.ask()
            await settle()
            await upstream.fail(1, REFUSED)
            assert (ending.ends, silent.ends) == (["broken"], [])

    run(go)


def test_no_more_connections_stay_idle_than_may_and_none_after_it_is_closed(monkeypatch):
    monkeypatch.setattr(pools, "IDLE_MAX", 2)

    async def go() -> None:
        async with Upstream() as upstream:
            asked = [upstream.ask()[0] for _ in range(4)]
            await upstream.asked(4)
            while sum(bool(recorder.ends) for recorder in asked) < 3:
                while len(upstream.requests) > 1:
                    upstream.requests.pop().write(ANSWER)
                await asyncio.sleep(0.001)
            assert len(upstream.pool._idle) == 2
            upstream.pool.close()
            assert not upstream.pool._idle
            (last,) = (recorder for recorder in asked if not recorder.ends)
            await upstream.answer(last)  # what was under way has its answer
            assert not upstream.pool._idle
            while not all(connection.is_closing() for connection in upstream.connections):
                await asyncio.sleep(0.001)
            late, _ = upstream.ask()
            await upstream.asked(1)
            await upstream.answer(late)
            assert not upstream.pool._idle

    run(go)


def test_an_idle_connection_that_ends_is_forgotten():
    async def go() -> None:
        async with Upstream() as upstream:
            recorder, _ = upstream.ask()
            await upstream.asked(1)
            await upstream.answer(recorder)
            assert len(upstream.pool._idle) == 1
            upstream.connections[0].close()
            while upstream.pool._idle:
                await asyncio.sleep(0.001)

    run(go)


def test_a_request_sent_again_waits_for_a_fresh_connection_and_goes_before_the_others():
    async def go() -> None:
        async with Upstream() as upstream:
            warm, _ = upstream.ask()
            await upstream.asked(1)
            await upstream.answer(warm)
            again, _ = upstream.ask()
            await upstream.asked(1)
            upstream.decides = True
            other, _ = upstream.ask()
            upstream.requests.pop().close()  # used before, and closed without a byte: sent once more
            while len(upstream.dials) < 2:
                await asyncio.sleep(0.001)
            upstream.dials[0].set_result(None)
            await upstream.asked(1)
            await upstream.answer(again)
            await upstream.asked(1)
            await upstream.answer(other)

    run(go)


def test_a_certificate_that_is_wrong_for_one_is_wrong_for_all():
    wrong = ssl.SSLCertVerificationError(1, "certificate verify failed")
    assert pools.is_everybodys(wrong)
    assert "certificate verify failed" in pools.reason(wrong)


def test_a_failure_says_why_in_a_few_words():
    assert pools.reason(TimeoutError()) == "no answer in time"
    assert pools.reason(TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))) == "connection timed out"
    assert pools.reason(ConnectionResetError()) == "it was ended at once"


def test_a_line_gives_out_each_once_in_order():
    line = Line()
    exchanges = [Exchange(Recorder(), b"") for _ in range(6)]
    for exchange in exchanges[:4]:
        line.append(exchange)
    mark = line.mark
    for exchange in exchanges[4:]:
        line.append(exchange)
    exchanges[1].is_over = True
    assert line.first() is exchanges[0]
    assert line.first() is exchanges[2]
    assert list(line.until(mark)) == [exchanges[3]]
    assert list(line.until(mark)) == []
    assert line.first() is exchanges[4]
