"""Whatever comes in can be shown to a virus scanner while it comes in, and is kept only if that finds nothing.

Two kinds: a clamd, in its protocol INSTREAM (over TCP or a unix socket), and a command that reads its standard input and says with its
exit status what it found (0 nothing, 1 something: as clamscan does). Nothing is ever unpacked here: that is the scanner's own, with
limits of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
from collections.abc import AsyncIterator
from typing import Protocol

from cordee.config.sections.services import Scanner
from cordee.services.base.errors import Problem

RETRY_AFTER_S = 5
_CLEAN, _INFECTED = 0, 1  # exit statuses of a command
_ANSWER_BYTES = 4096
_log = logging.getLogger(__name__)


class Scan(Protocol):
    """The look at one content."""

    async def feed(self, piece: bytes | bytearray) -> None:
        """Show the next piece. Raises Problem."""
        ...

    async def verdict(self) -> None:
        """After the last piece. Raises Problem (400) for what is infected, or (503) when a verdict is required and none came."""
        ...


class _Nothing:
    async def feed(self, piece: bytes | bytearray) -> None:
        pass

    async def verdict(self) -> None:
        pass


class _ScannerAwayError(Exception):
    """No verdict; the message says why."""


class _Clamd:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        writer.write(b"zINSTREAM\0")

    async def feed(self, piece: bytes | bytearray) -> None:
        self._writer.write(struct.pack("!I", len(piece)) + piece)
        await self._writer.drain()

    async def infection(self) -> str | None:
        self._writer.write(struct.pack("!I", 0))
        await self._writer.drain()
        said = (await self._reader.read(_ANSWER_BYTES)).rstrip(b"\0\n").decode(errors="replace")
        if said.endswith(" OK"):
            return None
        if said.endswith(" FOUND"):
            return said.removesuffix(" FOUND").rpartition(": ")[2]
        raise _ScannerAwayError(f"clamd answered {said[:80]!r}")

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class _Command:
    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None, "it was started with a pipe"
        self._process = process
        self._pipe = process.stdin

    async def feed(self, piece: bytes | bytearray) -> None:
        # A command that has seen enough ends before the last byte; what it found is in its exit status.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.write(bytes(piece))
            await self._pipe.drain()

    async def infection(self) -> str | None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.close()
            await self._pipe.wait_closed()
        status = await self._process.wait()
        if status in (_CLEAN, _INFECTED):
            return "something" if status == _INFECTED else None
        raise _ScannerAwayError(f"the command ended with {status}")

    async def close(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


class _Watched:
    """A scan whose troubles are what the settings say they are, and which never waits longer than they say."""

    def __init__(self, scan: _Clamd | _Command, settings: Scanner, param: str) -> None:
        self._scan = scan
        self._settings = settings
        self._param = param
        self._is_lost = False

    async def feed(self, piece: bytes | bytearray) -> None:
        if self._is_lost or not piece:
            return
        try:
            async with asyncio.timeout(self._settings.answer_s):
                await self._scan.feed(piece)
        except (OSError, TimeoutError) as error:
            self._is_lost = True
            _no_verdict(self._settings, error)

    async def verdict(self) -> None:
        if self._is_lost:
            return
        try:
            async with asyncio.timeout(self._settings.answer_s):
                found = await self._scan.infection()
        except (OSError, TimeoutError, _ScannerAwayError) as error:
            _no_verdict(self._settings, error)
        else:
            if found is not None:
                _log.warning("an upload was refused: the scanner found %s", found.encode("unicode_escape").decode())
                raise Problem(
                    400, f"{self._param}: the virus scanner found something in this file, so it was not kept.",
                    self._param, "infected",
                )  # fmt: skip


@contextlib.asynccontextmanager
async def scanning(settings: Scanner, param: str) -> AsyncIterator[Scan]:
    """Look at one content, which comes in as the parameter `param`. Raises Problem."""
    if not settings.clamd and not settings.command:
        yield _Nothing()
        return
    try:
        async with asyncio.timeout(settings.answer_s):
            scan = await _began(settings)
    except (OSError, TimeoutError) as error:
        _no_verdict(settings, error)
        yield _Nothing()
        return
    try:
        yield _Watched(scan, settings, param)
    finally:
        await scan.close()


async def _began(settings: Scanner) -> _Clamd | _Command:
    if settings.command:
        return _Command(
            await asyncio.create_subprocess_exec(
                *settings.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
        )  # fmt: skip
    if settings.clamd.startswith("unix:"):
        return _Clamd(*await asyncio.open_unix_connection(settings.clamd.removeprefix("unix:")))
    host, _, port = settings.clamd.rpartition(":")
    return _Clamd(*await asyncio.open_connection(host.strip("[]"), int(port)))


def _no_verdict(settings: Scanner, error: Exception) -> None:
    _log.warning("the virus scanner gave no verdict: %s", error or type(error).__name__)
    if settings.is_required:
        raise Problem(
            503, "The virus scanner does not answer, and nothing is kept without its verdict; try again later.",
            code="scanner_away", retry_after_s=RETRY_AFTER_S,
        )  # fmt: skip
