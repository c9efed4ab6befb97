"""What a guest's keeper tells gateways, over a unix socket of their owner: one JSON line whenever something is new.

A line says everything: where the guest listens, the key it wants, whether it may be asked, and how much it has to do. That its
connection ends says that it is gone. Gateways only listen; who does not read is not waited for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from cordee.domain.replica import UNKNOWN, Gpu

OWNER_ONLY_UMASK = 0o177
LINE_BYTES_MAX = 64 * 1024
PENDING_BYTES_MAX = 64 * 1024  # a gateway that has stopped reading gets no further lines
AGAIN_S, AGAIN_S_MAX = 0.05, 1.0  # before a gateway tries again to hear it


class Word(Struct, frozen=True, kw_only=True):
    """`name`: of the worker; `kind`: of the guest; `life`: changes when another process stands there. `is_ready`: it may be asked.
    Load and capacity as in domain.replica."""

    name: str
    kind: str
    model: str
    url: str
    key: str
    life: int
    is_ready: bool
    sequences_max: int
    tokens_max: int
    running: int = 0
    waiting: int = 0
    tokens: int = 0
    steps: int = 0
    cpu: int = UNKNOWN
    memory: int = UNKNOWN
    gpu: int = UNKNOWN
    gpus: tuple[Gpu, ...] = ()

    def __repr__(self) -> str:
        return f"Word({self.name}, {self.url}, is_ready={self.is_ready})"  # without the key


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Word).decode


class Teller:
    """The keeper's end. Between `open` and `close` everybody who listens hears the last word at once and each new one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._server: asyncio.Server | None = None
        self._listeners: set[asyncio.StreamWriter] = set()
        self._line = b""

    async def open(self) -> None:
        """Raises OSError when the socket cannot be made."""
        self._path.unlink(missing_ok=True)
        before = os.umask(OWNER_ONLY_UMASK)  # between bind and chmod the socket would be anybody's
        try:
            self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LINE_BYTES_MAX)
        finally:
            os.umask(before)

    def tell(self, word: Word) -> None:
        """Say it to all, if it is new."""
        line = _encode(word) + b"\n"
        if line == self._line:
            return
        self._line = line
        for writer in self._listeners:
            if writer.transport.get_write_buffer_size() < PENDING_BYTES_MAX:
                writer.write(line)

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._listeners:
            writer.close()
        self._path.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._listeners.add(writer)
        try:
            if self._line:
                writer.write(self._line)
            with suppress(OSError):
                await reader.read(1)  # it says nothing: this is its end
        finally:
            self._listeners.discard(writer)
            writer.close()


async def hear(path: str, told: Callable[[Word], None], lost: Callable[[str], None]) -> None:
    """A gateway's end: `told` every word, `lost` when the connection ended or nobody was there. Runs until it is cancelled."""
    pause_s = AGAIN_S
    while True:
        try:
            reader, writer = await asyncio.open_unix_connection(path, limit=LINE_BYTES_MAX)
            try:
                while line := await reader.readline():
                    told(_decode(line))
                    pause_s = AGAIN_S
            finally:
                writer.close()
            lost("its process has ended")
        except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors, and so is a line that is too long
            lost(str(error))
        await asyncio.sleep(pause_s)
        pause_s = min(AGAIN_S_MAX, pause_s * 2)
