"""The bytes of a GGUF file, read once from front to back, where no count is believed before it was held against what is left."""

from __future__ import annotations

import struct
from typing import BinaryIO

STRING_BYTES_MAX = 16 * 1024 * 1024  # a chat template is kilobytes
HEADER_BYTES_MAX = 1 << 30


class GGUFError(Exception):
    """The file is not a sound GGUF model; the message says what is wrong and at which byte."""


class Source:
    """A file read once from front to back in pieces, that never hands out or jumps over more than there is."""

    PIECE_BYTES = 1 << 20
    _U32 = struct.Struct("<I")
    _U64 = struct.Struct("<Q")

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self.size = size
        self._stream = stream
        self._piece = b""
        self._next = 0  # within the piece
        self._piece_start = 0  # of the piece, within the file

    @property
    def at(self) -> int:
        """The byte of the file that comes next."""
        return self._piece_start + self._next

    def wrong(self, what: str) -> GGUFError:
        return GGUFError(f"before byte {self.at}: {what}.")

    def take(self, count: int, what: str) -> bytes:
        self._believe(count, what)
        end = self._next + count
        if end > len(self._piece):
            self._piece_start += self._next
            self._piece = self._piece[self._next :] + self._stream.read(max(count, self.PIECE_BYTES))
            self._next, end = 0, count
            if end > len(self._piece):
                raise self.wrong(f"the file became shorter while {what} was read")
        taken = self._piece[self._next : end]
        self._next = end
        return taken

    def skip(self, count: int, what: str) -> None:
        self._believe(count, what)
        target = self.at + count
        if self._next + count <= len(self._piece):
            self._next += count
        else:
            self._stream.seek(target)
            self._piece, self._next, self._piece_start = b"", 0, target

    def u32(self, what: str) -> int:
        value: int = self._U32.unpack(self.take(4, what))[0]
        return value

    def u64(self, what: str) -> int:
        value: int = self._U64.unpack(self.take(8, what))[0]
        return value

    def count(self, what: str, most: int, bytes_each: int) -> int:
        """A number of things that must follow, each of at least `bytes_each` bytes."""
        value = self.u64(f"the number of {what}")
        if value > most:
            raise self.wrong(f"{value} {what}; at most {most} are allowed")
        if value * bytes_each > self.size - self.at:
            raise self.wrong(f"{value} {what} cannot fit in the {self.size - self.at} bytes that are left")
        return value

    def string(self, what: str, most: int, *, strict: bool = False) -> str:
        """Text. Values in the wild are not always UTF-8, so only names are held to it (`strict`)."""
        length = self.u64(f"the length of {what}")
        if length > most:
            raise self.wrong(f"{what} is {length} bytes long; at most {most} are allowed")
        raw = self.take(length, what)
        try:
            return raw.decode("utf-8", "strict" if strict else "replace")
        except UnicodeDecodeError as error:
            raise self.wrong(f"{what} is not UTF-8") from error

    def skip_strings(self, count: int, what: str) -> None:
        unpack, most = self._U64.unpack_from, STRING_BYTES_MAX
        for _ in range(count):
            if len(self._piece) - self._next < 8:
                self.take(8, f"the length of {what}")  # brings the next piece
                self._next -= 8
            length = unpack(self._piece, self._next)[0]
            if length > most:
                raise self.wrong(f"{what} is {length} bytes long; at most {most} are allowed")
            self._next += 8
            if self._next + length <= len(self._piece):
                self._next += length
            else:
                self.skip(length, what)

    def _believe(self, count: int, what: str) -> None:
        if count > self.size - self.at:
            raise self.wrong(
                f"the file ends at byte {self.size}, in the middle of {what}: it is truncated; fetch it again"
            )
        if self.at + count > HEADER_BYTES_MAX:
            raise self.wrong(f"the header is longer than {HEADER_BYTES_MAX} bytes")
