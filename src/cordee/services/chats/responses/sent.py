"""How much of each answer was sent, so that a killed process leaves behind exactly that: a small file per process, a slot per stream.

Every piece that is handed to a client's connection is noted with one write of twenty bytes, a microsecond, into the page cache: it
outlives the process, killed at any moment, though not the machine. The file is locked as long as its process lives; whoever gets the lock
finds what a dead one has left. A slot names the response, the gateways' name of the answer, and the extent that was sent. How the
response began lies beside it, in a file of its own, until the database has it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from cordee.domain.record import record
from cordee.services.chats.responses.deltas import Extent

_HEAD = struct.Struct("<48s160s")
_EXTENT = struct.Struct("<IIIII")  # reasoning, content, calls, arguments, 1 when anything was sent
_SLOT_BYTES = 256  # a page holds whole slots, so no write lies across two
_MODE = 0o600
_SUFFIX = ".sent"
_BEGUN = ".begun"


@record
class Left:
    """What a dead process had sent of a response. `call`: "" when nothing had come; `beginning`: what `Sent.take` was given."""

    response: str
    call: str
    extent: Extent
    beginning: bytes


class Slot:
    """One stream's."""

    __slots__ = ("_at", "_book", "_call", "_response")

    def __init__(self, book: Sent, at: int, response: str) -> None:
        self._book = book
        self._at = at
        self._response = response
        self._call = ""

    def note(self, call: str, extent: Extent) -> None:
        """So much was handed over."""
        if call != self._call:
            self._call = call
            self._book.write(self._at, _HEAD.pack(self._response.encode(), call.encode()))
        packed = _EXTENT.pack(extent.reasoning, extent.content, extent.calls, extent.arguments, 1)
        self._book.write(self._at + _HEAD.size, packed)

    def free(self) -> None:
        self._book.free(self._at, self._response)


class Sent:
    """This process's file. `slots_max`: streams at once. Raises OSError."""

    def __init__(self, directory: Path, name: str, slots_max: int) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = directory / f"{name}{_SUFFIX}"
        made = self.path.with_suffix(".part")
        self._file = os.open(made, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        made.rename(self.path)  # locked before anybody looks for it
        self._slots_max = slots_max
        self._free: list[int] = []
        self._used = 0

    def take(self, response: str, beginning: bytes) -> Slot | None:
        """None when all are taken, or the disk has no room: then only the database knows of this stream. `beginning`: whatever is
        needed to settle it when the database does not know it."""
        at = self._free.pop() if self._free else self._used * _SLOT_BYTES
        if at == self._used * _SLOT_BYTES:
            if self._used == self._slots_max:
                return None
            self._used += 1
        try:
            _keep(_begun(self.path.parent, response), beginning)
            os.pwrite(self._file, _HEAD.pack(response.encode(), b"") + bytes(_EXTENT.size), at)
        except OSError:
            self.free(at, response)
            return None
        return Slot(self, at, response)

    def write(self, at: int, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk ends no stream; what is known then is what was noted last
            os.pwrite(self._file, data, at)

    def free(self, at: int, response: str) -> None:
        self.write(at, bytes(_SLOT_BYTES))
        self._free.append(at)
        with contextlib.suppress(OSError):
            _begun(self.path.parent, response).unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing is left behind."""
        with contextlib.suppress(OSError):
            self.path.unlink()
        os.close(self._file)


@contextlib.contextmanager
def left_behind(directory: Path, own: Path) -> Iterator[list[Left]]:
    """What dead processes have left. Their files are gone when the block ends without an exception."""
    found: list[Left] = []
    held: list[tuple[int, Path]] = []
    try:
        for path in sorted(directory.glob(f"*{_SUFFIX}")):
            if path == own:
                continue
            with contextlib.suppress(OSError):
                file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(file)
                    continue
                held.append((file, path))
                found += _read(file, directory)
        yield found
        for left in found:
            _begun(directory, left.response).unlink(missing_ok=True)
        for _, path in held:
            path.unlink(missing_ok=True)
    finally:
        for file, _ in held:
            os.close(file)


def _begun(directory: Path, response: str) -> Path:
    return directory / f"{response}{_BEGUN}"


def _keep(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
    try:
        os.write(file, data)
    finally:
        os.close(file)


def _read(file: int, directory: Path) -> Iterator[Left]:
    at = 0
    while len(data := os.pread(file, _SLOT_BYTES, at)) >= _HEAD.size + _EXTENT.size:
        at += _SLOT_BYTES
        response, call = (part.rstrip(b"\0").decode() for part in _HEAD.unpack_from(data))
        if response:
            beginning = b""
            with contextlib.suppress(OSError):
                beginning = _begun(directory, response).read_bytes()
            yield Left(response, call, Extent(*_EXTENT.unpack_from(data, _HEAD.size)[:4]), beginning)
    # A last slot shorter than a whole one was just taken; its size is known by its two parts.
