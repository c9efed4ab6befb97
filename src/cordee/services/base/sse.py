"""Server-sent events out of bytes: only an event that has come whole counts, as in browsers (WHATWG HTML, 9.2). Pure."""

from __future__ import annotations

import re

from cordee.services.base.door import DoorError, Streamed

_LINE_END = re.compile(rb"\r\n|\n|\r")


class Events:
    """One stream. `bytes_max`: of one event. `last_id`: of the last event that came whole, "" where it had none."""

    def __init__(self, bytes_max: int) -> None:
        self.last_id = ""
        self._bytes_max = bytes_max
        self._rest = b""  # of a line that is not whole
        self._id = ""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Streamed]:
        """What is whole now. Raises DoorError for an event that is too long."""
        found: list[Streamed] = []
        data = self._rest + data
        at = 0
        for end in _LINE_END.finditer(data):
            if end.end() == len(data) and end[0] == b"\r":
                break  # perhaps the first half of an end
            self._line(data[at : end.start()], found)
            at = end.end()
        self._rest = data[at:]
        if self._size + len(self._rest) > self._bytes_max:
            raise DoorError(f"an event of the stream is longer than {self._bytes_max} bytes")
        return found

    def _line(self, line: bytes, found: list[Streamed]) -> None:
        if not line:
            if self._data:
                found.append(Streamed(self._id, b"\n".join(self._data)))
                self.last_id = self._id
            self._id, self._data, self._size = "", [], 0
            return
        self._size += len(line)
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"id":
            self._id = value.decode("utf-8", "replace")
