"""Servers that misbehave: every exchange ends in exactly one of complete and broken, and no answer reaches another's asker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import pytest
import uvloop

from cordee.http.pool import ConnectionPool

T = TypeVar("T")
REQUEST = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
PATIENCE_S = 30.0
SETTLE_S = 0.02  # how long an end too many is waited for


class Recorder:
    """Receiver that keeps what it gets."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.data = b""
        self.ends: list[str] = []
        self.ran: bool | None = None
        self.over = asyncio.Event()

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = dict(headers)

    def body(self, data: bytes) -> None:
        assert not self.ends, "a body after the end"
        self.data += data

    def complete(self) -> None:
        self.ends.append("complete")
        self.over.set()

    def closed(self) -> None:
        self.ends.append("closed")
        self.over.set()

    def broken(self, cause: str, *, ran: bool) -> None:
        self.ends.append("broken")
        self.ran = ran
        self.over.set()


class Misbehaving:
    """A server that answers the n-th request it sees with the n-th script, whatever was asked. None: close the connection."""

    def __init__(self, *scripts: Sequence[bytes | None]) -> None:
        self._scripts = list(scripts)
        self.connections = 0
        self.ended = asyncio.Event()

    async def __aenter__(self) -> ConnectionPool:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return ConnectionPool("127.0.0.1", self._server.sockets[0].getsockname()[1], None, PATIENCE_S)

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                for part in self._scripts.pop(0):
                    if part is None:
                        return
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(0.005)  # so that the parts arrive as parts
        except (asyncio.IncompleteReadError, ConnectionError):
            self.ended.set()
        finally:
            writer.close()


def run(what: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE_S):
            return await what()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


async def asked(pool: ConnectionPool) -> Recorder:
    recorder = Recorder()
    pool.send(REQUEST, recorder)
    await recorder.over.wait()
    await asyncio.sleep(SETTLE_S)
    assert len(recorder.ends) == 1, recorder.ends
    return recorder


def answer_of(*parts: bytes | None) -> Recorder:
    async def go() -> Recorder:
        async with Misbehaving(parts) as pool:
            return await asked(pool)

    return run(go)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

WHOLE = {
    "with a length": [OK + b"Content-Length: 5\r\n\r\nhello"],
    "byte by byte": [bytes([byte]) for byte in OK + b"Content-Length: 5\r\n\r\nhello"],
    "in chunks": [CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"],
    "with trailers": [CHUNKED + b"5\r\nhello\r\n0\r\nx: y\r\n\r\n"],
    "after an interim response": [b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"Content-Length: 5\r\n\r\nhello"],
    "after early hints": [b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\nhello"],
    "and closed": [OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", None],
}

BROKEN = {
    "closed at once": [None],
    "closed in the head": [b"HTTP/1.1 200 OK\r\nContent-", None],
    "closed before the body": [OK + b"Content-Length: 5\r\n\r\n", None],
    "closed in the body": [OK + b"Content-Length: 5\r\n\r\nhell", None],
    "closed in a chunk": [CHUNKED + b"5\r\nhell", None],
    "closed before the last chunk": [CHUNKED + b"5\r\nhello\r\n", None],
    "closed after an interim response": [b"HTTP/1.1 100 Continue\r\n\r\n", None],
    "a length too short": [OK + b"Content-Length: 5\r\n\r\nhello, world"],
    "two lengths": [OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"],
    "a length that is none": [OK + b"Content-Length: five\r\n\r\nhello"],
    "a length and chunks": [OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"],
    "a chunk size that is none": [CHUNKED + b"z\r\nhello\r\n0\r\n\r\n"],
    "garbage": [b"\x00\x01\x02 what?\r\n\r\n"],
    "another protocol": [b"SSH-2.0-OpenSSH_9.2\r\n"],
    "a change of protocol": [b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"],
    "a second answer": [OK + b"Content-Length: 5\r\n\r\nhello" + OK + b"Content-Length: 5\r\n\r\nother"],
    "the beginning of a second answer": [OK + b"Content-Length: 5\r\n\r\nhello" + OK + b"Content-Length: 5\r\n\r\n"],
    "one byte too many": [OK + b"Content-Length: 5\r\n\r\nhelloH"],
}  # fmt: skip


@pytest.mark.parametrize("parts", WHOLE.values(), ids=WHOLE)
def test_a_whole_response_is_complete(parts):
    recorder = answer_of(*parts)
    assert (recorder.ends, recorder.status, recorder.data) == (["complete"], 200, b"hello")


@pytest.mark.parametrize("parts", BROKEN.values(), ids=BROKEN)
def test_a_response_that_breaks_its_own_framing_is_broken(parts):
    recorder = answer_of(*parts)
    assert recorder.ends == ["broken"]
    assert recorder.ran is True


@pytest.mark.parametrize(
    "first",
    [
        [OK + b"Content-Length: 5\r\n\r\nhello" + OK + b"Content-Length: 6\r\n\r\n"],
        [OK + b"Content-Length: 5\r\n\r\nhello" + OK + b"Content-Length: 6\r\n\r\npoison"],
        [OK + b"Content-Length: 5\r\n\r\nhello", OK + b"Content-Length: 6\r\n\r\npoison"],
    ],
    ids=["a head behind it", "an answer behind it", "an answer after it"],
)
def test_what_nobody_asked_for_never_becomes_somebody_elses_answer(first):
    async def go():
        server = Misbehaving(first, [OK + b"Content-Length: 4\r\n\r\ntrue"])
        async with server as pool:
            await asked(pool)
            while pool._idle:  # what came behind the first answer has ended the connection
                await asyncio.sleep(0.001)
            second = await asked(pool)
            assert (second.ends, second.data) == (["complete"], b"true")
            assert server.connections == 2

    run(go)


def test_a_connection_is_used_again_and_trailers_do_not_reach_the_next_answer():
    async def go():
        server = Misbehaving([CHUNKED + b"0\r\nx-leak: 1\r\n\r\n"], [OK + b"Content-Length: 2\r\n\r\nok"])
        async with server as pool:
            await asked(pool)
            second = await asked(pool)
            assert second.data == b"ok"
            assert b"x-leak" not in second.headers
            assert server.connections == 1

    run(go)


def test_a_response_that_ends_its_connection_is_not_followed_on_it():
    async def go():
        closing = OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
        server = Misbehaving([closing], [OK + b"Content-Length: 2\r\n\r\nok"])
        async with server as pool:
            await asked(pool)
            assert (await asked(pool)).data == b"ok"
            assert server.connections == 2

    run(go)


def test_an_answer_that_ends_with_its_connection_is_left_to_its_content():
    recorder = answer_of(OK + b"\r\nhel", b"lo", None)
    assert (recorder.ends, recorder.data) == (["closed"], b"hello")


def test_an_idle_connection_that_turns_out_to_be_closed_costs_no_request():
    async def go():
        server = Misbehaving([OK + b"Content-Length: 2\r\n\r\nok"], [None], [OK + b"Content-Length: 5\r\n\r\nagain"])
        async with server as pool:
            await asked(pool)
            second = await asked(pool)
            assert (second.ends, second.data) == (["complete"], b"again")
            assert server.connections == 2

    run(go)


def test_a_fresh_connection_that_is_closed_is_not_tried_a_third_time():
    async def go():
        server = Misbehaving([OK + b"Content-Length: 2\r\n\r\nok"], [None], [None])
        async with server as pool:
            await asked(pool)
            assert (await asked(pool)).ends == ["broken"]
            assert server.connections == 2

    run(go)


def test_a_reused_connection_that_breaks_within_its_answer_is_broken():
    async def go():
        server = Misbehaving([OK + b"Content-Length: 2\r\n\r\nok"], [OK + b"Content-Length: 2\r\n\r\no", None])
        async with server as pool:
            await asked(pool)
            assert (await asked(pool)).ends == ["broken"]

    run(go)


def test_nobody_there_is_broken_and_did_not_run():
    async def go():
        server = Misbehaving()
        async with server as pool:
            pass
        recorder = await asked(pool)
        assert recorder.ends == ["broken"]
        assert recorder.ran is False

    run(go)


def test_a_cancelled_exchange_is_silent_and_the_server_sees_the_end():
    async def go():
        server = Misbehaving([CHUNKED + b"5\r\nhello\r\n"])
        async with server as pool:
            recorder = Recorder()
            exchange = pool.send(REQUEST, recorder)
            while not recorder.data:
                await asyncio.sleep(0.001)
            exchange.cancel()
            exchange.cancel()
            await server.ended.wait()
            await asyncio.sleep(SETTLE_S)
            assert recorder.ends == []

    run(go)


def test_an_exchange_cancelled_before_it_is_connected_is_silent():
    async def go():
        server = Misbehaving([OK + b"Content-Length: 2\r\n\r\nok"])
        async with server as pool:
            recorder = Recorder()
            pool.send(REQUEST, recorder).cancel()
            assert (await asked(pool)).data == b"ok"
            assert recorder.ends == []

    run(go)


def test_a_held_back_exchange_receives_nothing_until_it_is_resumed():
    async def go():
        more = [b"5\r\nhello\r\n"] * 3 + [b"0\r\n\r\n"]
        async with Misbehaving([CHUNKED, *more]) as pool:
            recorder = Recorder()
            exchange = pool.send(REQUEST, recorder)
            while not recorder.status:
                await asyncio.sleep(0.001)
            exchange.pause()
            seen = recorder.data
            await asyncio.sleep(0.05)
            assert recorder.data == seen
            exchange.resume()
            await recorder.over.wait()
            assert recorder.data == b"hello" * 3

    run(go)
