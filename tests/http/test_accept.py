"""Who waits at a listening socket is let in: all of them, many in a turn, and later when there is nothing to let them in with."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import uvloop

from cordee.http.accept import TURN_MAX, Acceptor

T = TypeVar("T")
PATIENCE_S = 30.0


class Guest(asyncio.Protocol):
    """Says hello, and notes in which turn of the loop it came."""

    def __init__(self, house: House) -> None:
        self.house = house

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.house.made.append(transport)
        transport.write(b"hello")  # type: ignore[attr-defined]


class House:
    """An acceptor on a port, and its guests."""

    def __init__(self, listener: socket.socket | None = None, pause_s: float = 0.01) -> None:
        self.made: list[asyncio.BaseTransport] = []
        self.listener = listener or socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.acceptor = Acceptor(self.listener, lambda: Guest(self), pause_s)

    def guest(self) -> socket.socket:
        """Connected as far as the kernel knows; nobody has accepted it yet."""
        return socket.create_connection(self.acceptor.address, PATIENCE_S)

    async def has(self, guests: int) -> None:
        while len(self.made) < guests:
            await asyncio.sleep(0.001)


class Scarce:
    """A listening socket that has no descriptors, as often as `errors` says."""

    def __init__(self, *errors: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.errors = list(errors)
        self.asked = 0

    def accept(self) -> tuple[socket.socket, object]:
        self.asked += 1
        if self.errors:
            raise OSError(self.errors[0], os.strerror(self.errors.pop(0)))
        return self._listener.accept()

    def __getattr__(self, name: str) -> object:
        return getattr(self._listener, name)


def run(what: Callable[[], Awaitable[T]]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE_S):
            return await what()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(bounded())


def test_a_crowd_is_let_in_within_a_few_turns_and_without_delay():
    async def go() -> None:
        house = House()
        crowd = [house.guest() for _ in range(TURN_MAX + 10)]
        turns = 0
        while len(house.made) < len(crowd):
            await asyncio.sleep(0)
            turns += 1
        assert turns < 20
        for guest in crowd:
            assert guest.recv(5) == b"hello"
            guest.close()
        fileno = house.made[0].get_extra_info("socket").fileno()
        with socket.socket(fileno=os.dup(fileno)) as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert not os.get_blocking(fileno)
        assert not os.get_inheritable(fileno)
        house.acceptor.close()

    run(go)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_accepting_pauses_and_resumes_by_itself(error, caplog):
    async def go() -> int:
        scarce = Scarce(error, error, error)
        house = House(scarce)  # type: ignore[arg-type]
        with house.guest() as guest:
            await house.has(1)
            assert guest.recv(5) == b"hello"
        house.acceptor.close()
        assert scarce.asked <= 3 + 1 + 1 + 1, "it tried without a pause"
        return house.acceptor.pauses

    with caplog.at_level(logging.WARNING):
        assert run(go) == 3
    assert len(caplog.records) == 1, "said once, not every time"
    assert "raise the limit of open files" in caplog.text


def test_a_client_that_has_gone_before_it_was_accepted_keeps_nobody_out():
    async def go() -> None:
        house = House(Scarce(errno.ECONNABORTED, errno.EPROTO))  # type: ignore[arg-type]
        with house.guest() as guest:
            await house.has(1)
            assert guest.recv(5) == b"hello"
        assert house.acceptor.pauses == 0
        house.acceptor.close()

    run(go)


def test_whoever_was_connected_before_it_closes_is_let_in_and_nobody_after():
    async def go() -> None:
        house = House()
        waiting = [house.guest() for _ in range(5)]
        address = house.acceptor.address
        house.acceptor.close()
        house.acceptor.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, PATIENCE_S)
        await house.has(len(waiting))
        for guest in waiting:
            assert guest.recv(5) == b"hello"
            guest.close()

    run(go)


def test_it_can_be_closed_while_it_pauses():
    async def go() -> None:
        house = House(Scarce(*[errno.EMFILE] * 100), pause_s=60.0)  # type: ignore[arg-type]
        with house.guest():
            while not house.acceptor.pauses:
                await asyncio.sleep(0.001)
            house.acceptor.close()
        assert house.made == []

    run(go)


def test_a_connection_that_is_aborted_when_it_is_made_leaves_nothing_behind():
    faults: list[object] = []

    class Rude(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.abort()  # type: ignore[attr-defined]

    async def go() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
        listener = socket.create_server(("127.0.0.1", 0))
        acceptor = Acceptor(listener, Rude)

        async def visit() -> None:
            with socket.create_connection(acceptor.address, PATIENCE_S) as guest:
                guest.setblocking(False)
                assert await asyncio.get_running_loop().sock_recv(guest, 1) == b""

        await visit()  # the event loop keeps a descriptor of its own from the first one on
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            await visit()
        while len(os.listdir("/proc/self/fd")) > before:
            await asyncio.sleep(0.001)
        acceptor.close()

    run(go)
    assert faults == []
