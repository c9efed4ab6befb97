"""What cannot be recorded now is kept on this server's disk, in order, until it can.

A folder of segments, shared by all processes of the server; each process appends to one of its own, locked while it grows. A line is
`CRC32 JSON` and counts once it was synced: what a crash left half-written at the end was never promised, and is passed over. Names sort
by age, so entries leave in the order in which they came, and a segment is deleted when all of it was taken. Only one process takes at a
time. After a crash in the middle it takes a segment from its start again: whoever gets an entry knows one that came before by its id.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from cordee.config.sections.services import Spool as SpoolSettings
from cordee.services.base.identifiers import new

_TAKING = "taking"  # the lock of the one who takes
_SEGMENT, _SUFFIX = "seg", ".jsonl"
_REFUSED = "refused.damaged"  # entries that could not be recorded for what they are: for people to look at
_FILE_MODE, _FOLDER_MODE = 0o600, 0o700
_log = logging.getLogger(__name__)


class SpoolError(Exception):
    """It could not be kept: the spool is as large as it may be, or the disk is full or broken. Nothing of it was kept."""


class Spool:
    """One per process. Blocks (fsync): call it in threads, `add` never twice at once."""

    def __init__(self, folder: Path, settings: SpoolSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._descriptor: int | None = None  # of the segment that grows
        self._size = 0  # of it, in bytes that count

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, of whatever process of this server."""
        return not self._segments()

    @property
    def segments(self) -> list[Path]:
        """All that there are, the oldest first, also those that grow or are being taken."""
        return self._segments()

    @property
    def held_bytes(self) -> int:
        """On disk."""
        total = 0
        for path in self._segments():
            with contextlib.suppress(FileNotFoundError):  # somebody took it
                total += path.stat().st_size
        return total

    def add(self, entries: Sequence[bytes]) -> None:
        """Keep all of `entries` (JSON without line breaks) or none; they are on disk when it returns. Raises SpoolError."""
        lines = b"".join(b"%08x %b\n" % (zlib.crc32(entry), entry) for entry in entries)
        held = self.held_bytes
        if held + len(lines) > self._settings.bytes_max:
            raise SpoolError(
                f"{self._folder} holds {held} bytes and may hold {self._settings.bytes_max}: bring the database back, "
                f"or raise services.chats.spool.bytes_max."
            )
        try:
            descriptor = self._growing()
            try:
                _write(descriptor, lines)
                os.fsync(descriptor)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(descriptor, self._size)
                self.close()  # what cannot be trusted does not grow on
                raise
        except OSError as error:
            raise SpoolError(f"{self._folder}: {error.strerror}; free space there.") from error
        self._size += len(lines)
        if self._size >= self._settings.segment_bytes:
            self.close()

    def close(self) -> None:
        """End the segment that grows, so that it can be taken; the next `add` begins another. Not while an `add` runs."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextlib.contextmanager
    def taking(self) -> Iterator[list[Path]]:
        """The segments that can be taken now, the oldest first, for this process alone; none while another process takes."""
        self._make_folder()
        descriptor = os.open(self._folder / _TAKING, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield []
                return
            yield [path for path in self._segments() if not _grows(path)]
        finally:
            os.close(descriptor)

    def entries(self, segment: Path) -> list[bytes]:
        """What counts in the segment, in order."""
        found: list[bytes] = []
        for number, line in enumerate(segment.read_bytes().splitlines(keepends=True), 1):
            check, _, entry = line.rstrip(b"\n").partition(b" ")
            if line.endswith(b"\n") and check == b"%08x" % zlib.crc32(entry):
                found.append(entry)
            else:
                _log.error("%s: line %d is broken and passed over (%d bytes)", segment, number, len(line))
        return found

    def taken(self, segment: Path) -> None:
        """All of it was taken: delete it."""
        segment.unlink(missing_ok=True)
        _sync_folder(self._folder)

    def set_aside(self, entry: bytes) -> None:
        """Keep an entry that will never be taken where people find it."""
        descriptor = os.open(
            self._folder / _REFUSED, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, _FILE_MODE
        )
        try:
            _write(descriptor, entry + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _growing(self) -> int:
        if self._descriptor is None:
            self._make_folder()
            last = self._segments()[-1:]
            path = self._folder / f"{new(_SEGMENT, last[0].stem if last else '')}{_SUFFIX}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, _FILE_MODE)
            self._size = 0
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            _sync_folder(self._folder)
        return self._descriptor

    def _make_folder(self) -> None:
        self._folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)

    def _segments(self) -> list[Path]:
        try:
            with os.scandir(self._folder) as found:
                return sorted(Path(one.path) for one in found if one.name.endswith(_SUFFIX))
        except FileNotFoundError:
            return []


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _grows(path: Path) -> bool:
    """Whether a living process still adds to it: the kernel frees the lock of a dead one's."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
