"""Any OpenAI-compatible server as a replica: the body goes out as it came, the answer comes back as it is.

What such a server can promise is less than what our own workers can: an answer that breaks off before its first byte is
asked for again elsewhere; after it there is nothing to continue from, and the client gets a clear error.
"""

from __future__ import annotations

import asyncio
import ssl
from array import array
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

import msgspec

from cordee.domain.call import Call
from cordee.http.client import ConnectionPool, Exchange
from cordee.ports import Receiver

DONE = b"[DONE]"
TAIL_BYTES = 64  # where the end marker of a stream stands
DISCOVER_S, DISCOVER_S_MAX, REFRESH_S = 0.1, 2.0, 15.0
DISCOVERY_BYTES_MAX = 4 * 1024 * 1024
RETRY_AFTER_S_MAX = 1.0  # longer advice than this means: ask another one first


class Server:
    """Port Upstream for one server; `url` is its base, with or without `/v1`. Raises ValueError for a URL that is none."""

    def __init__(self, url: str, key: str | None = None) -> None:
        parts = urlsplit(url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.username
            or parts.query
            or parts.fragment
        ):
            raise ValueError(f"replica {url!r} is not of the form http://HOST:PORT")
        tls = ssl.create_default_context() if parts.scheme == "https" else None
        port = parts.port or (443 if tls else 80)
        self.id = f"{parts.hostname}:{port}"
        self._base = parts.path.rstrip("/").removesuffix("/v1").encode()
        self._head = b"host: %s\r\ncontent-type: application/json\r\n" % parts.netloc.encode()
        if key:
            self._head += b"authorization: Bearer %s\r\n" % key.encode()
        self._connections = ConnectionPool(parts.hostname, port, tls)

    def start(
        self, call: Call, attempt: int, outputs: Sequence[array[int]], done: frozenset[int], remaining_s: float,
        receiver: Receiver,
        sent: Sequence[bytes] = (),
    ) -> Exchange:  # fmt: skip
        extra = b"".join([b"%s: %s\r\n" % header for header in call.headers]) if call.headers else b""
        request = b"POST %s%s HTTP/1.1\r\n%sx-request-id: %s\r\n%scontent-length: %d\r\n\r\n%s" % (
            self._base, call.path.encode(), self._head, call.id.encode(), extra, len(call.body), call.body
        )  # fmt: skip
        return self._connections.send(request, _Forward(receiver))

    async def models(self) -> list[str]:
        """The ids at /v1/models. Raises OSError when they cannot be had."""
        answer = _Collect(asyncio.get_running_loop().create_future())
        self._connections.send(b"GET %s/v1/models HTTP/1.1\r\n%s\r\n" % (self._base, self._head), answer)
        status, body = await answer.future
        if status != 200:
            raise OSError(f"GET /v1/models was answered with status {status}")
        try:
            return [model.id for model in msgspec.json.decode(body, type=_Models).data]
        except msgspec.MsgspecError as error:
            raise OSError(f"GET /v1/models was answered with something else: {error}") from error

    async def watch(self, found: Callable[[list[str]], None], failed: Callable[[str], None]) -> None:
        """Ask for the models now, again soon while that fails, and from time to time after it."""
        pause_s = DISCOVER_S
        while True:
            try:
                async with asyncio.timeout(DISCOVER_S_MAX * 2):
                    models = await self.models()
            except (OSError, TimeoutError) as error:
                failed(str(error) or "no answer in time")
                await asyncio.sleep(pause_s)
                pause_s = min(DISCOVER_S_MAX, pause_s * 2)
                continue
            found(models)
            pause_s = DISCOVER_S
            await asyncio.sleep(REFRESH_S)


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class _Forward:
    """Sorts what a server answers: an answer, a refusal before work, or a fault."""

    __slots__ = ("_before", "_is_stream", "_last", "_receiver", "_retry_after_s", "_status")

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._status = 0
        self._is_stream = False
        self._before = self._last = b""  # kept as they came: only the end of the stream is looked at
        self._retry_after_s: float | None = None

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._status = status
        if status in (429, 503):
            value = dict(headers).get(b"retry-after", b"")
            self._retry_after_s = min(RETRY_AFTER_S_MAX, float(value)) if value.isdigit() else None
        elif status < 500:
            for name, value in headers:
                if name == b"content-type":
                    self._is_stream = value.startswith(b"text/event-stream")
            self._receiver.head(status, headers)

    def body(self, data: bytes) -> None:
        if self._status < 500 and self._status != 429:
            if self._is_stream:
                self._before, self._last = self._last, data
            self._receiver.body(data)

    def complete(self) -> None:
        if self._status in (429, 503):
            self._receiver.busy(self._retry_after_s)
        elif self._status >= 500:
            self._receiver.broken(f"it answered with status {self._status}", ran=True)
        elif self._is_stream and DONE not in (self._before + self._last)[-TAIL_BYTES:]:
            self._receiver.broken("its stream ended without [DONE]", ran=True)
        else:
            self._receiver.complete()

    def broken(self, cause: str, *, ran: bool) -> None:
        self._receiver.broken(cause, ran=ran)


class _Collect:
    """A small response as a whole."""

    __slots__ = ("_body", "_status", "future")

    def __init__(self, future: asyncio.Future[tuple[int, bytes]]) -> None:
        self.future = future
        self._status = 0
        self._body = bytearray()

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._status = status

    def body(self, data: bytes) -> None:
        if len(self._body) < DISCOVERY_BYTES_MAX:
            self._body += data

    def complete(self) -> None:
        if not self.future.done():
            self.future.set_result((self._status, bytes(self._body)))

    def broken(self, cause: str, *, ran: bool) -> None:
        if not self.future.done():
            self.future.set_exception(OSError(cause))
