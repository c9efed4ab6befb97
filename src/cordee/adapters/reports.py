"""A process tells its supervisor how it is: one JSON line twice a second over the control socket.

Without a socket (a gateway or worker started by hand) a Reporter does nothing. A supervisor that is not there is no fault
of the reporting process: it goes on serving and tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec

log = logging.getLogger(__name__)

INTERVAL_S = 0.5  # how old a load in `cordee status` may be
INTERVAL_STARTING_S = 0.1  # until ready: the supervisor waits for exactly that word
PENDING_BYTES_MAX = 64 * 1024  # a supervisor that does not read for minutes gets no further lines


class Reporter:
    """Sends `snapshot()` with `"kind": "report"` added to the control socket at `path`; None: sends nothing.

    `start` needs a running event loop; `stop` may be called at any time, and twice.
    """

    def __init__(self, path: str | None, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._path = path
        self._snapshot = snapshot
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._path and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(self._path), name="reporter")

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self, path: str) -> None:
        while True:
            try:
                await self._report(path)
            except OSError as error:
                log.debug("the supervisor at %s cannot be told: %s", path, error)
            await asyncio.sleep(INTERVAL_S)

    async def _report(self, path: str) -> None:
        """One connection, until it breaks."""
        _, writer = await asyncio.open_unix_connection(path)
        try:
            while True:
                report = self._snapshot()
                if writer.transport.get_write_buffer_size() < PENDING_BYTES_MAX:
                    writer.write(msgspec.json.encode({"kind": "report", **report}) + b"\n")
                    await writer.drain()
                await asyncio.sleep(INTERVAL_S if report.get("state") == "ready" else INTERVAL_STARTING_S)
        finally:
            writer.close()
