"""Accepting: whoever waits at a listening socket is let in, many in one turn of the event loop. Decides how many, and what happens when
nobody can be let in; what a connection may do afterwards is decided elsewhere.

libuv accepts one connection in a turn from each socket. A turn is long while thousands are served, so of a crowd that comes back at
once the last would wait for many seconds. Here the loop only says that somebody waits.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable

log = logging.getLogger(__name__)
TURN_MAX = 256  # accepted in one turn, at some 20 µs each: those who are served already wait 5 ms at most
PAUSE_S = 0.1  # without descriptors or memory: what comes meanwhile waits in the kernel's queue
SAY_AGAIN_S = 60.0
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Accepts from `listener`, which is its own from now on, until it is closed. `factory` makes the protocol of each connection."""

    def __init__(
        self, listener: socket.socket, factory: Callable[[], asyncio.Protocol], pause_s: float = PAUSE_S
    ) -> None:
        self._listener = listener
        self._factory = factory
        self._pause_s = pause_s
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[None]] = set()  # at most as many as came in the last two turns
        self._resuming: asyncio.TimerHandle | None = None
        self._said_s: float | None = None
        self.pauses = 0  # how often nobody could be accepted
        listener.setblocking(False)
        self._loop.add_reader(listener, self._accept)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: host and port."""
        host, port, *_ = self._listener.getsockname()
        return host, port

    def close(self) -> None:
        """Nobody comes any more. Who has been told by the kernel that it is connected is still let in. Idempotent."""
        if self._listener.fileno() < 0:
            return
        if self._resuming is not None:
            self._resuming.cancel()
        else:
            self._loop.remove_reader(self._listener)
        self._accept_at_most(socket.SOMAXCONN)
        self._listener.close()

    def _accept(self) -> None:
        fault = self._accept_at_most(TURN_MAX)
        if fault is None:
            return
        # The socket stays readable: without a pause the loop would do nothing else than try.
        self.pauses += 1
        self._loop.remove_reader(self._listener)
        self._resuming = self._loop.call_later(self._pause_s, self._resume)
        now_s = self._loop.time()
        if self._said_s is None or now_s - self._said_s >= SAY_AGAIN_S:
            self._said_s = now_s
            log.warning(
                "no connection can be accepted (%s): those who come wait until others have gone; raise the limit of open files, or "
                "lower gateway.connections_max", os.strerror(fault).lower()
            )  # fmt: skip

    def _resume(self) -> None:
        self._resuming = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept_at_most(self, count: int) -> int | None:
        """Returns the errno of what is used up, if anything is."""
        for _ in range(count):
            try:
                accepted, _ = self._listener.accept()
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in EXHAUSTED:
                    return error.errno
                continue  # this one has gone already (accept(2)); the next one need not have
            task = self._loop.create_task(self._open(accepted))
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)
        return None

    async def _open(self, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._factory, accepted)
        except (OSError, RuntimeError) as error:  # the event loop's word for one that was aborted when it was made
            accepted.close()
            log.debug("a connection ended before it began: %s", error)
