"""A copy of what another server answered, for whoever asks the same again.

It stands between the sink and the client and lets everything through as it comes; what is too long is let through and not kept.
"""

from __future__ import annotations

from cordee.domain.kept import KeptBytes
from cordee.gateway.kept.call import Kept
from cordee.http.exchange import Answer, Listener, Outlet

FIRST_ERROR_STATUS = 400  # answers from here on are nobody's to keep


class Recorder:
    """An Outlet before another one. `bytes_max` of an answer are kept."""

    __slots__ = ("_bytes_max", "_headers", "_kept", "_outlet", "_parts", "_size", "_status")

    def __init__(self, outlet: Outlet, kept: Kept, bytes_max: int) -> None:
        self._outlet = outlet
        self._kept = kept
        self._bytes_max = bytes_max
        self._parts: list[bytes] = []
        self._size = 0
        self._status = 0
        self._headers = b""

    @property
    def listener(self) -> Listener | None:
        return self._outlet.listener

    @listener.setter
    def listener(self, listener: Listener | None) -> None:
        self._outlet.listener = listener

    @property
    def is_open(self) -> bool:
        return self._outlet.is_open

    @property
    def is_slow(self) -> bool:
        return self._outlet.is_slow

    def answer(self, answer: Answer) -> None:
        if answer.status >= FIRST_ERROR_STATUS:
            self._kept.failed()
        elif len(answer.body) <= self._bytes_max:
            self._kept.complete(KeptBytes(answer.status, kept_headers(answer.headers), answer.body, stream=False))
        else:
            self._kept.failed()
        self._outlet.answer(answer)

    def begin(self, status: int, headers: bytes) -> None:
        self._status, self._headers = status, kept_headers(headers)
        self._outlet.begin(status, headers)

    def write(self, data: bytes) -> None:
        self._add(data)
        self._outlet.write(data)

    def end(self, data: bytes = b"") -> None:
        self._add(data)
        if self._status < FIRST_ERROR_STATUS and self._size <= self._bytes_max:
            self._kept.complete(KeptBytes(self._status, self._headers, b"".join(self._parts), stream=True))
        else:
            self._kept.failed()
        self._parts.clear()
        self._outlet.end(data)

    def fail(self, answer: Answer, event: bytes) -> None:
        self._kept.failed()
        self._outlet.fail(answer, event)

    def abort(self) -> None:
        self._kept.failed()
        self._outlet.abort()

    def _add(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._bytes_max:
            self._parts.append(data)
        else:
            self._parts.clear()


def kept_headers(headers: bytes) -> bytes:
    """Those that belong to the answer, and not to the call that brought it."""
    lines = headers.split(b"\r\n")
    return b"".join(line + b"\r\n" for line in lines if line.lower().startswith(b"content-type:"))
