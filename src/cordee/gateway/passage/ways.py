"""The ways to the services processes: their connections, who of them is asked, and how a frozen one is noticed.

A dead process refuses connections. A frozen one does not: the kernel takes them for it. So each is asked once a second how it is, and
whoever does not answer in time is left alone until it does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from urllib.parse import urlsplit

from cordee.http.client import Exchange
from cordee.http.pool import ConnectionPool
from cordee.policy.living import Living
from cordee.ports import Clock

UNIX = "unix:"
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: cordee\r\n\r\n"
LOOK_S = 1.0  # between two looks at each process
PARTS = 4  # of a time limit: one that runs out while this process stands still is not the other's silence


class Way:
    """To one process, at `unix:/PATH` or `http://HOST:PORT`. Raises ValueError for what is neither."""

    def __init__(self, address: str) -> None:
        self.address = address
        if address.startswith(UNIX):
            self.pool = ConnectionPool("", 0, None, path=address.removeprefix(UNIX))
            return
        parts = urlsplit(address)
        if parts.scheme != "http" or not parts.hostname or parts.path.rstrip("/") or parts.query or parts.username:
            raise ValueError(f"--services {address!r} is neither unix:/PATH nor http://HOST:PORT")
        self.pool = ConnectionPool(parts.hostname, parts.port or 80, None)


class Ways:
    """To all of them. `silent_s`: how long one may take to say how it is."""

    def __init__(self, addresses: Sequence[str], clock: Clock, rest_s: float, silent_s: float) -> None:
        self.silent_s = silent_s
        self.living = Living(len(addresses), rest_s)
        self.fell_silent: Callable[[int], None] = lambda index: None  # called when one is noticed to be
        self._clock = clock
        self._ways = [Way(address) for address in addresses]

    def __len__(self) -> int:
        return len(self._ways)

    def pick(self, tried: Collection[int]) -> tuple[int, ConnectionPool] | None:
        """Whom to ask next; None: nobody is there."""
        index = self.living.ask(self._clock.now(), tried)
        return None if index is None else (index, self._ways[index].pool)

    def away(self, index: int) -> None:
        self.living.note_away(self._clock.now(), index)

    def count_living(self) -> int:
        now = self._clock.now()
        return sum(self.living.is_living(now, index) for index in range(len(self._ways)))

    async def run(self) -> None:
        """Look after them, for ever."""
        await asyncio.gather(*(self._look(index, way) for index, way in enumerate(self._ways)))

    async def _look(self, index: int, way: Way) -> None:
        while True:
            heard: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            exchange: Exchange = way.pool.send(HEALTH, _Heard(heard))
            for _ in range(PARTS):
                if not heard.done():
                    await asyncio.wait({heard}, timeout=self.silent_s / PARTS)
            if not heard.done():
                exchange.cancel()
                self.living.note_silent(index)
                self.fell_silent(index)
            elif heard.result():
                self.living.note_heard(index)
            else:
                self.away(index)
            await asyncio.sleep(LOOK_S)


class _Heard:
    """http.client.Receiver: whatever is said, a process said it."""

    __slots__ = ("_future",)

    def __init__(self, future: asyncio.Future[bool]) -> None:
        self._future = future

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        pass

    def body(self, data: bytes) -> None:
        pass

    def complete(self) -> None:
        self._tell(heard=True)

    def closed(self) -> None:
        self._tell(heard=True)

    def broken(self, cause: str, *, ran: bool) -> None:
        self._tell(heard=False)

    def _tell(self, *, heard: bool) -> None:
        if not self._future.done():
            self._future.set_result(heard)
