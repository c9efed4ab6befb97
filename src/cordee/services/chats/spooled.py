"""What waits on this server's disk, found by the stream that it tells of, whichever process of the server wrote it.

Segments only grow, so each is read once, up to where it had grown, and what is kept in memory is where the entries of a stream lie: some
hundred bytes an entry, as many as the spool may hold. An entry is read again, and compared with its checksum, when somebody asks for it.
Nothing is read as long as nobody asks.
"""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

_CHECK_CHARACTERS = 9  # the checksum before an entry, and the space behind it


class _Stream(msgspec.Struct, array_like=True):
    """Of one that is told something, its name; what follows is passed over."""

    name: str


class _Entry(msgspec.Struct, array_like=True):
    time: float
    tellings: list[_Stream]


class _Segment:
    """`read`: bytes of it that are known; `places`: of each stream, where its entries begin and how long their lines are."""

    __slots__ = ("places", "read")

    def __init__(self) -> None:
        self.read = 0
        self.places: dict[str, list[tuple[int, int]]] = {}


_decode = msgspec.json.Decoder(_Entry).decode


class Spooled:
    """One per process. Blocks (reads files): call it in threads."""

    def __init__(self) -> None:
        self._segments: dict[Path, _Segment] = {}
        self._finding = threading.Lock()  # a call whose caller was cancelled goes on

    def find(self, segments: Sequence[Path], stream: str) -> list[bytes]:
        """The entries of `segments`, all that there are now, that tell of the stream, in order. What is deleted meanwhile is passed
        over: it was taken."""
        with self._finding:
            self._segments = {path: self._segments.get(path) or _Segment() for path in segments}
            return [entry for path, segment in self._segments.items() for entry in _in(path, segment, stream)]


def _in(path: Path, segment: _Segment, stream: str) -> list[bytes]:
    found: list[bytes] = []
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        file.seek(segment.read)
        _know(segment, file.read())
        for at, length in segment.places.get(stream, ()):
            file.seek(at)
            if (entry := _whole(file.read(length))) is not None:
                found.append(entry)
    return found


def _know(segment: _Segment, grown: bytes) -> None:
    """Take in what stands behind what is known, up to the last whole line."""
    for line in grown.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            return  # it is being written, or was when its process died
        if (entry := _whole(line)) is not None:
            with contextlib.suppress(msgspec.DecodeError):  # whoever takes it sets it aside
                for name in {one.name for one in _decode(entry).tellings}:
                    segment.places.setdefault(name, []).append((segment.read, len(line)))
        segment.read += len(line)


def _whole(line: bytes) -> bytes | None:
    """The entry; None when it is not what was written."""
    entry = line[_CHECK_CHARACTERS:].rstrip(b"\n")
    return entry if line.startswith(b"%08x " % zlib.crc32(entry)) else None
