"""The control socket: where processes report, and where `cordee status`, `cordee reload` and `cordee down` ask.

Whoever can open the socket is the owner (mode 0600 in a 0700 directory). What is not one of our messages closes that
connection and nothing else.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import msgspec

from cordee.supervisor.status import (
    LINE_BYTES_MAX,
    LoadWanted,
    ModelStatus,
    Reloaded,
    ReloadWanted,
    Report,
    Status,
    StatusWanted,
    StopWanted,
    UnloadWanted,
    read_message,
    write,
)

OWNER_ONLY_UMASK = 0o177


@dataclass(slots=True)
class Control:
    """The server end. `on_report`, `status`, `on_load` and `on_unload` are called for what comes in; `on_reload` is awaited for its
    answer; `on_stop` begins the end, and `ended` is awaited before a caller of stop is let go."""

    path: Path
    on_report: Callable[[Report], None]
    status: Callable[[], Status]
    on_reload: Callable[[], Awaitable[Reloaded]]
    on_load: Callable[[LoadWanted], ModelStatus]
    on_unload: Callable[[UnloadWanted], ModelStatus]
    on_stop: Callable[[], None]
    ended: asyncio.Event
    _server: asyncio.Server | None = None

    async def open(self) -> None:
        """Raises OSError when the socket cannot be made."""
        self.path.unlink(missing_ok=True)
        before = os.umask(OWNER_ONLY_UMASK)  # between bind and chmod the socket would be anybody's
        try:
            self._server = await asyncio.start_unix_server(self._serve, self.path, limit=LINE_BYTES_MAX)
        finally:
            os.umask(before)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # A vanished peer and an overlong line (ValueError) end the conversation like a garbled one does.
            with suppress(OSError, ValueError, msgspec.DecodeError):
                while (line := await reader.readline()) and await self._answer(line, writer):
                    pass
        finally:
            writer.close()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> bool:
        """False when nothing more will be answered on this connection."""
        message = read_message(line)
        match message:
            case Report():
                self.on_report(message)
            case StatusWanted():
                writer.write(write(self.status()))
                await writer.drain()
            case ReloadWanted():
                writer.write(write(await self.on_reload()))
                await writer.drain()
            case LoadWanted():
                writer.write(write(self.on_load(message)))
                await writer.drain()
            case UnloadWanted():
                writer.write(write(self.on_unload(message)))
                await writer.drain()
            case StopWanted():
                writer.write(write(self.status()))
                self.on_stop()
                await self.ended.wait()
                return False
            case _:
                assert_never(message)
        return True
