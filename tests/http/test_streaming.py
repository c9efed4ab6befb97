"""Requests whose body is sent as it comes, to a unix socket: in order, held back by a slow server, and never sent a second time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from cordee.http.client import Streaming
from cordee.http.pool import ConnectionPool
from tests.http.test_client import OK, Recorder
from tests.http.test_pool import run, settle

HEAD = b"PUT / HTTP/1.1\r\nhost: h\r\ncontent-length: %d\r\n\r\n"
PIECE = b"x" * 65536


class Pieces:
    """Source that counts what it hears."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.holds = 0

    def started(self) -> None:
        self.may.set()

    def hold(self) -> None:
        self.holds += 1
        self.may.clear()

    def go_on(self) -> None:
        self.may.set()


Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def at(path: Path, serve: Serve) -> tuple[ConnectionPool, asyncio.Server]:
    server = await asyncio.start_unix_server(serve, path)
    return ConnectionPool("", 0, None, path=str(path)), server


def streamed(pool: ConnectionPool, length: int) -> tuple[Recorder, Pieces, Streaming]:
    recorder, pieces = Recorder(), Pieces()
    exchange = pool.send_once(HEAD % length, recorder, pieces)
    assert isinstance(exchange, Streaming)
    return recorder, pieces, exchange


def test_a_streamed_body_arrives_whole_however_slowly_it_is_read(tmp_path):
    async def main() -> None:
        received = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal received
            await reader.readuntil(b"\r\n\r\n")
            while received < 64 * len(PIECE):
                received += len(await reader.read(50_000))
            writer.write(OK + b"Content-Length: 2\r\n\r\nok")

        pool, server = await at(tmp_path / "s", serve)
        recorder, pieces, exchange = streamed(pool, 64 * len(PIECE))
        for _ in range(64):
            await pieces.may.wait()
            exchange.write(PIECE)
        exchange.end()
        await recorder.over.wait()
        assert (recorder.ends, recorder.data, received) == (["complete"], b"ok", 64 * len(PIECE))
        assert pieces.holds > 0
        server.close()

    run(main)


def test_a_server_that_reads_nothing_holds_the_source_back(tmp_path):
    async def main() -> None:
        pool, server = await at(tmp_path / "s", lambda reader, writer: asyncio.sleep(60))
        recorder, pieces, exchange = streamed(pool, 1 << 30)
        await pieces.may.wait()
        for _ in range(64):
            if not pieces.may.is_set():
                break
            exchange.write(PIECE)
        assert pieces.holds == 1
        exchange.cancel()
        assert recorder.ends == []
        server.close()

    run(main)


def test_an_answer_before_the_end_of_the_body_ends_its_connection(tmp_path):
    async def main() -> None:
        connections = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal connections
            connections += 1
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(OK + b"Content-Length: 2\r\n\r\nok")

        pool, server = await at(tmp_path / "s", serve)
        recorder, _, exchange = streamed(pool, 100)
        await recorder.over.wait()
        assert recorder.ends == ["complete"]
        exchange.write(b"late")  # without effect
        again = Recorder()
        pool.send(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n", again)
        await again.over.wait()
        assert connections == 2
        server.close()

    run(main)


def test_a_request_that_must_not_be_repeated_gets_a_fresh_connection_and_only_one(tmp_path):
    async def main() -> None:
        requests = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal requests
            await reader.readuntil(b"\r\n\r\n")
            requests += 1
            if requests == 1:
                writer.write(OK + b"Content-Length: 2\r\n\r\nok")
                await reader.read(1)
            writer.close()

        pool, server = await at(tmp_path / "s", serve)
        first, second = Recorder(), Recorder()
        pool.send(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n", first)
        await first.over.wait()
        pool.send_once(b"POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n", second)
        await second.over.wait()
        await settle()
        assert (second.ends, second.ran, requests) == (["broken"], True, 2)
        server.close()
        pool.close()

    run(main)


def test_nobody_at_the_socket_is_broken_and_did_not_run(tmp_path):
    async def main() -> None:
        pool = ConnectionPool("", 0, None, path=str(tmp_path / "nobody"))
        recorder, pieces, _ = streamed(pool, 10)
        await recorder.over.wait()
        assert (recorder.ends, recorder.ran) == (["broken"], False)
        assert not pieces.may.is_set()

    run(main)


def test_the_answer_to_head_is_whole_without_the_body_it_speaks_of(tmp_path):
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(OK + b"Content-Length: 1000\r\n\r\n")

        pool, server = await at(tmp_path / "s", serve)
        recorder = Recorder()
        pool.send(b"HEAD / HTTP/1.1\r\nhost: h\r\n\r\n", recorder)
        await recorder.over.wait()
        assert recorder.ends == ["complete"]
        assert recorder.headers[b"content-length"] == b"1000"
        server.close()

    run(main)


def test_an_exchange_that_is_held_back_by_its_last_piece_does_not_hold_the_next(tmp_path):
    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(OK + b"Content-Length: 2\r\n\r\nok")

        pool, server = await at(tmp_path / "s", serve)

        class Holding(Recorder):
            def body(self, data: bytes) -> None:
                super().body(data)
                exchange.pause()

        for recorder in (Holding(), Recorder()):
            exchange = pool.send(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n", recorder)
            await recorder.over.wait()
            assert recorder.data == b"ok"
        server.close()

    run(main)
