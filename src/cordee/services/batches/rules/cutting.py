"""Bytes that come in pieces are cut into lines, none longer than allowed."""

from __future__ import annotations

from collections.abc import Iterator


class TooLongError(Exception):
    """A line exceeds the limit; its number is the argument."""


class Cutter:
    """Feed pieces, get whole lines with their numbers, counted from 1; lines of white space are left out but counted."""

    def __init__(self, line_bytes_max: int) -> None:
        self._most = line_bytes_max
        self._rest = bytearray()
        self._number = 0

    def feed(self, piece: bytes) -> Iterator[tuple[int, bytes]]:
        """The lines that are whole now. Raises TooLongError."""
        begin = 0
        while (end := piece.find(b"\n", begin)) >= 0:
            self._take(piece[begin:end])
            begin = end + 1
            yield from self._cut()
        self._take(piece[begin:])

    def end(self) -> Iterator[tuple[int, bytes]]:
        """The last line, which need not have an end."""
        if self._rest:
            yield from self._cut()

    def _take(self, part: bytes) -> None:
        self._rest += part
        if len(self._rest) > self._most:
            raise TooLongError(self._number + 1)

    def _cut(self) -> Iterator[tuple[int, bytes]]:
        self._number += 1
        line = bytes(self._rest).strip()
        self._rest.clear()
        if line:
            yield self._number, line
