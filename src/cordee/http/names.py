"""Decides which addresses stand for the name of a server.

What was found last stands for FRESH_S, and after that until something newer is found: a name that cannot be looked up, or not in time,
says nothing about the server behind it. Who connects waits for a lookup while nothing is known, and for a moment when no known address
could be connected to: perhaps the server has moved. At most one lookup of a name is under way, because the system's resolver is asked
in a few threads only, and one that hangs would hold all of them.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable

FRESH_S = 30.0  # a common time to live of an address that may change; the system does not tell the real one
AGAIN_S = 1.0  # between two lookups, whatever they found
PATIENCE_S = 0.5  # for a lookup where addresses are known that seem to lead nowhere
ADDRESSES_MAX = 8  # of one name

Lookup = Callable[[str, int], Awaitable[tuple[str, ...]]]


class Name:
    """One name and port. `host` may be an address, which stands for itself."""

    __slots__ = (
        "_began_s",
        "_doubted",
        "_fault",
        "_host",
        "_known",
        "_look_from_s",
        "_looking",
        "_lookup",
        "_now",
        "_port",
    )

    def __init__(self, host: str, port: int, lookup: Lookup, now: Callable[[], float]) -> None:
        self._host = host
        self._port = port
        self._lookup = lookup
        self._now = now
        self._known: tuple[str, ...] = ()
        self._look_from_s = 0.0  # when the next lookup makes sense
        self._began_s = 0.0  # the last one
        self._doubted = False
        self._looking: asyncio.Task[None] | None = None
        self._fault: OSError | None = None
        if is_address(host):
            self._known = (host,)
            self._look_from_s = float("inf")

    async def addresses(self) -> tuple[str, ...]:
        """The one to try first comes first. Raises OSError while the name has never been found."""
        now = self._now()
        if self._looking is None and now >= self._look_from_s:
            self._began_s = now
            self._looking = asyncio.get_running_loop().create_task(self._look(), name=f"look up {self._host}")
        looking = self._looking
        if looking is None and not self._known:
            assert self._fault is not None, "it was looked up"
            raise self._fault.with_traceback(None)  # it may be raised for many
        if looking is not None and not self._known:
            await asyncio.shield(looking)  # whoever waits has a limit of its own, and others wait too
            return await self.addresses()
        if looking is not None and self._doubted:
            await asyncio.wait({looking}, timeout=max(0.0, self._began_s + PATIENCE_S - now))
        return self._known

    def failed(self, address: str) -> None:
        """No connection to it came up: the others go first, and perhaps there are new ones."""
        if address in self._known and not is_address(self._host):
            self._known = (*(one for one in self._known if one != address), address)
            self._doubted = True
            self._look_from_s = min(self._look_from_s, self._began_s + AGAIN_S)

    async def _look(self) -> None:
        try:
            found = await self._lookup(self._host, self._port)
        except OSError as fault:
            self._fault = fault
            self._look_from_s = self._now() + AGAIN_S
        except UnicodeError as fault:
            self._fault = OSError(f"{self._host!r} is no name of a host")
            self._fault.__cause__ = fault
            self._look_from_s = self._now() + FRESH_S
        else:
            if set(found) != set(self._known):
                self._known = found
            self._doubted = False
            self._look_from_s = self._now() + FRESH_S
        finally:
            self._looking = None


async def ask_system(host: str, port: int) -> tuple[str, ...]:
    """What the system's resolver says, in the order it prefers. Raises OSError, UnicodeError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(where[0]) for _, _, _, _, where in found))[:ADDRESSES_MAX]


def is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
