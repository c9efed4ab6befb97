"""The form of a backup: a tar in gzip whose last entry lists all others with size and SHA-256.

Written and read as a stream, in constant memory. A reader believes nothing before the list has been compared: a file that was cut
off has none.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, Self

from cordee.compose.saving.problem import SavingError
from cordee.compose.saving.sealing import MAGIC, Opening, Sealing, Sink, Source

LIST = "manifest"
KINDS = ("about.json", "config.toml", "databases/", "data/", "objects/")
_GZIP = b"\x1f\x8b"
_LEVEL = 6
_PIECE_BYTES = 1024 * 1024
_IN_MEMORY_BYTES = 8 * 1024 * 1024  # of the list; a longer one is kept in a file meanwhile
_MODE = 0o600
WHOLE_BYTES_MAX = 1024 * 1024  # of an entry that is read into memory
HEAD_BYTES_MAX = (
    256 * 1024
)  # of what tar says of one entry before its content; longer names and remarks are none of ours
_LINE_BYTES_MAX = 64 * 1024  # of the list; a name is shorter
_NOT_WHOLE = (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error)


class Writer:
    """Entries one after the other; `close` writes the list."""

    def __init__(self, sink: Sink, passphrase: bytes | None) -> None:
        self._sealing = Sealing(sink, passphrase) if passphrase is not None else None
        self._gzip = gzip.GzipFile(fileobj=_Written(self._sealing or sink), mode="wb", compresslevel=_LEVEL, mtime=0)
        self._tar = tarfile.open(fileobj=self._gzip, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - until close
        self._list: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - likewise
        self.entries = 0

    def add(self, name: str, size: int, source: Source) -> None:
        """Raises SavingError when `source` has fewer bytes than that: they may have been changed meanwhile."""
        counted = _Counted(source, size)
        try:
            self._tar.addfile(_info(name, size), counted)
        except OSError as error:
            if counted.left:
                raise SavingError(f"{name} became shorter while it was saved; try again") from error
            raise
        self._list.write(_line(counted.digest, size, name))
        self.entries += 1

    def put(self, name: str, content: bytes) -> None:
        self.add(name, len(content), io.BytesIO(content))

    def close(self) -> None:
        size = self._list.tell()
        self._list.seek(0)
        self._tar.addfile(_info(LIST, size), self._list)
        self._tar.close()
        self._gzip.close()
        if self._sealing is not None:
            self._sealing.close()
        self._list.close()


class Entry:
    """One entry while it is the one that is read."""

    def __init__(self, name: str, size: int, content: _Counted) -> None:
        self.name = name
        self.size = size
        self._content = content

    def read(self, size: int = _PIECE_BYTES, /) -> bytes:
        """Raises SavingError where the backup ends in the middle."""
        try:
            return self._content.read(size)
        except _NOT_WHOLE as error:
            raise _damaged(error) from error

    def pieces(self) -> Iterator[bytes]:
        while piece := self.read():
            yield piece

    def whole(self) -> bytes:
        """All of an entry that says something of the backup. Raises SavingError for one that would fill the memory."""
        if self.size > WHOLE_BYTES_MAX:
            raise SavingError(f"{self.name} in the backup has {self.size} bytes, which none of ours has: it is none")
        return b"".join(self.pieces())


class Reader:
    """The entries of a backup in their order, once. After the last one the list has been compared with what was read."""

    def __init__(self, tar: tarfile.TarFile, read: _Heads) -> None:
        self._tar = tar
        self._read = read

    @classmethod
    def open(cls, source: IO[bytes] | Any, passphrase: bytes | None) -> Self:
        """`source` can be read and sought. Raises SavingError."""
        begin = bytes(source.read(len(MAGIC)))
        source.seek(0)
        opened: Source = source
        if begin == MAGIC:
            if passphrase is None:
                raise SavingError("the backup is encrypted: give the passphrase with --passphrase-file FILE")
            opened = Opening(source, passphrase)
        elif not begin.startswith(_GZIP):
            raise SavingError("this is no backup of ours")
        try:
            heads = _Heads(gzip.GzipFile(fileobj=_Read(opened), mode="rb"))
            return cls(tarfile.open(fileobj=heads, mode="r|"), heads)
        except _NOT_WHOLE as error:
            raise _damaged(error) from error

    def __iter__(self) -> Iterator[Entry]:
        found: IO[bytes]
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as found:
            try:
                while (member := self._tar.next()) is not None:
                    is_plain = member.type == tarfile.REGTYPE and not member.issparse() and member.size >= 0
                    content = self._tar.extractfile(member) if is_plain else None
                    if content is None:
                        raise SavingError(
                            f"the backup holds {member.name[:200]!r}, which is no plain file: it is none of ours"
                        )
                    self._read.is_content = True
                    if member.name == LIST:
                        _compare(found, content)
                        return
                    _check_name(member.name)
                    counted = _Counted(content, member.size)
                    yield Entry(member.name, member.size, counted)
                    while counted.read(_PIECE_BYTES):
                        pass  # what nobody wanted is part of the list, too
                    self._read.begin()
                    self._tar.members.clear()  # type: ignore[attr-defined]  # it remembers all for who seeks; stubs do not know of it
                    found.write(_line(counted.digest, member.size, member.name))
            except _NOT_WHOLE as error:
                raise _damaged(error) from error
        raise SavingError("the backup is not whole: its list of entries is missing; take another one")


class _Counted:
    """Reads `size` bytes of a source and knows their digest."""

    def __init__(self, source: Source, size: int) -> None:
        self._source = source
        self._hash = hashlib.sha256()
        self.left = size

    def read(self, size: int = -1, /) -> bytes:
        wanted = self.left if size < 0 else min(size, self.left)
        piece = self._source.read(wanted) if wanted else b""
        self._hash.update(piece)
        self.left -= len(piece)
        return piece

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


class _Written(io.RawIOBase):
    """A Sink as gzip wants it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._sink.write(bytes(data))
        return len(data)


class _Heads(io.RawIOBase):
    """What tarfile reads before a content is bounded: it takes a name into memory however long that says it is."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.begin()

    def begin(self) -> None:
        self.is_content = False
        self._left = HEAD_BYTES_MAX

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        if not self.is_content:
            self._left -= size
            if self._left < 0:
                raise tarfile.ReadError(f"more than {HEAD_BYTES_MAX} bytes are said of an entry")
        return self._source.read(size)


class _Read(io.RawIOBase):
    """A Source as gzip wants it."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return bytes(self._source.read(size if size >= 0 else _PIECE_BYTES))


def _compare(found: IO[bytes], listed: IO[bytes]) -> None:
    found.seek(0)
    while line := listed.readline(_LINE_BYTES_MAX):
        here = found.readline()
        if here != line:
            name = line.split(b" ", 2)[-1].decode("utf-8", "replace").strip()
            raise SavingError(f"the backup is damaged: {name} is not what was saved; take another one")
    if found.readline():
        raise SavingError("the backup holds more than was saved: it was changed; take another one")


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or "\0" in name
        or str(path) != name
        or not any(name == kind or (kind.endswith("/") and name.startswith(kind)) for kind in KINDS)
    ):
        raise SavingError(f"the backup holds an entry {name[:200]!r}, which is no place in an installation")


def _line(digest: str, size: int, name: str) -> bytes:
    return f"{digest} {size} {name!r}\n".encode()


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, _MODE
    return info


def _damaged(error: Exception) -> SavingError:
    return SavingError(f"the backup is damaged or not whole ({error}); take another one")
