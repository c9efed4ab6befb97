"""A name that was found once stays found, whatever becomes of the resolver."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

import pytest

from cordee.http.client import Receiver
from cordee.http.names import AGAIN_S, FRESH_S, Name, ask_system
from cordee.http.pool import ConnectionPool

ONE, TWO = "192.0.2.1", "192.0.2.2"  # RFC 5737: never real ones


class Resolver:
    """Knows what the test says, and answers when it may."""

    def __init__(self, *known: str) -> None:
        self.known = known
        self.asked = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.time_s = 100.0

    async def __call__(self, host: str, port: int) -> tuple[str, ...]:
        self.asked += 1
        await self.answers.wait()
        if not self.known:
            raise socket.gaierror(socket.EAI_NONAME, "name or service not known")
        return self.known

    def name(self, host: str = "upstream.test") -> Name:
        return Name(host, 80, self, lambda: self.time_s)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(5):
            await scene()

    asyncio.run(bounded())


async def idle() -> None:
    """Until what was begun has ended."""
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_name_is_looked_up_once_for_all_who_ask_and_then_for_a_while_not_at_all() -> None:
    async def scene() -> None:
        resolver = Resolver(ONE)
        name = resolver.name()
        assert await asyncio.gather(*(name.addresses() for _ in range(10))) == [(ONE,)] * 10
        resolver.time_s += FRESH_S - 1
        assert await name.addresses() == (ONE,)
        assert resolver.asked == 1

    play(scene)


@pytest.mark.parametrize("host", [ONE, "2001:db8::1"])
def test_an_address_is_never_looked_up(host: str) -> None:
    async def scene() -> None:
        resolver = Resolver()
        name = resolver.name(host)
        name.failed(host)
        resolver.time_s += 10 * FRESH_S
        assert await name.addresses() == (host,)
        assert resolver.asked == 0

    play(scene)


def test_a_name_that_is_not_found_any_more_keeps_its_last_address() -> None:
    async def scene() -> None:
        resolver = Resolver(ONE)
        name = resolver.name()
        await name.addresses()
        resolver.known = ()
        for _ in range(5):
            resolver.time_s += FRESH_S + 1
            name.failed(ONE)
            assert await name.addresses() == (ONE,)
            await idle()

    play(scene)


def test_nobody_waits_for_a_resolver_that_hangs_while_an_address_is_known() -> None:
    async def scene() -> None:
        resolver = Resolver(ONE)
        name = resolver.name()
        await name.addresses()
        resolver.answers.clear()
        for _ in range(3):
            resolver.time_s += FRESH_S + 1
            assert await name.addresses() == (ONE,)
            await idle()
        assert resolver.asked == 2, "one lookup at a time"
        name.failed(ONE)
        assert await name.addresses() == (ONE,), "the patience with this lookup is over"
        resolver.answers.set()
        await idle()

    play(scene)


def test_a_name_that_has_moved_is_followed_when_its_address_fails() -> None:
    async def scene() -> None:
        resolver = Resolver(ONE)
        name = resolver.name()
        await name.addresses()
        resolver.known = (TWO,)
        assert await name.addresses() == (ONE,), "nothing says that it has"
        resolver.time_s += AGAIN_S
        name.failed(ONE)
        assert await name.addresses() == (TWO,)

    play(scene)


def test_of_several_addresses_the_one_that_failed_goes_last() -> None:
    async def scene() -> None:
        resolver = Resolver(ONE, TWO)
        name = resolver.name()
        assert await name.addresses() == (ONE, TWO)
        name.failed(ONE)
        assert await name.addresses() == (TWO, ONE)
        resolver.time_s += FRESH_S + 1
        await name.addresses()
        await idle()
        assert await name.addresses() == (TWO, ONE), "the same were found again"

    play(scene)


def test_a_name_that_was_never_found_is_asked_for_at_most_once_a_second() -> None:
    async def scene() -> None:
        resolver = Resolver()
        name = resolver.name()
        for _ in range(10):
            with pytest.raises(OSError, match="name or service not known"):
                await name.addresses()
        assert resolver.asked == 1
        resolver.known = (ONE,)
        resolver.time_s += AGAIN_S
        assert await name.addresses() == (ONE,)

    play(scene)


def test_whoever_gives_up_waiting_leaves_the_lookup_to_the_others() -> None:
    async def scene() -> None:
        resolver = Resolver(ONE)
        resolver.answers.clear()
        name = resolver.name()
        first, second = (asyncio.create_task(name.addresses()) for _ in range(2))
        await idle()
        first.cancel()
        await idle()
        resolver.answers.set()
        assert await second == (ONE,)
        assert resolver.asked == 1

    play(scene)


@pytest.mark.parametrize("host", ["a..b", "x" * 300, "no.such.name.invalid"])
def test_what_is_no_name_is_an_error_in_words(host: str) -> None:
    async def scene() -> None:
        name = Name(host, 80, ask_system if host != "no.such.name.invalid" else Resolver(), lambda: 1.0)
        with pytest.raises(OSError, match=r"not known|no name of a host"):
            await name.addresses()

    play(scene)


def test_a_connection_goes_to_the_first_address_that_takes_it() -> None:
    class Whole(Receiver):
        def __init__(self) -> None:
            self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None: ...

        def body(self, data: bytes) -> None: ...

        def complete(self) -> None:
            self.over.set_result("complete")

        def closed(self) -> None:
            self.over.set_result("closed")

        def broken(self, cause: str, *, ran: bool) -> None:
            self.over.set_result(cause)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        writer.close()

    async def scene() -> None:
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            pool = ConnectionPool("upstream.test", port, None)
            pool._name = Resolver("127.0.0.2", "127.0.0.1").name()
            told = Whole()
            pool.send(b"GET / HTTP/1.1\r\nhost: upstream.test\r\n\r\n", told)
            assert await told.over == "complete"
        pool._name = Resolver().name()
        lost = Whole()
        pool.send(b"GET / HTTP/1.1\r\nhost: upstream.test\r\n\r\n", lost)
        assert await lost.over == "cannot connect (name or service not known)"

    play(scene)


def test_the_system_knows_this_host() -> None:
    async def scene() -> None:
        assert "127.0.0.1" in await ask_system("localhost", 80)

    play(scene)
