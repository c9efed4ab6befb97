"""A small response of a server as a whole, for questions that the gateway itself asks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cordee.adapters.upstreams.endpoint import Endpoint
from cordee.http.client import Exchange

BYTES_MAX = 4 * 1024 * 1024
OWN = "canary"  # the id of a request that is nobody's call


async def get(endpoint: Endpoint, path: str) -> tuple[int, bytes]:
    """Status and body. Raises OSError when there is no answer."""
    collect = _Collect(asyncio.get_running_loop().create_future())
    return await _answered(collect, endpoint.get(path, collect))


async def post(endpoint: Endpoint, path: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
    """Likewise. `timeout_s`: how long the answer is of use, which the server is told; to stop waiting is the caller's part."""
    collect = _Collect(asyncio.get_running_loop().create_future())
    return await _answered(collect, endpoint.post(path, body, OWN, (), timeout_s, collect))


async def _answered(collect: _Collect, exchange: Exchange) -> tuple[int, bytes]:
    try:
        return await collect.future
    finally:
        exchange.cancel()


class _Collect:
    """http.client.Receiver."""

    __slots__ = ("_body", "_status", "future")

    def __init__(self, future: asyncio.Future[tuple[int, bytes]]) -> None:
        self.future = future
        self._status = 0
        self._body = bytearray()

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._status = status

    def body(self, data: bytes) -> None:
        if len(self._body) < BYTES_MAX:
            self._body += data

    def complete(self) -> None:
        if not self.future.done():
            self.future.set_result((self._status, bytes(self._body)))

    def closed(self) -> None:
        self.complete()

    def broken(self, cause: str, *, ran: bool) -> None:
        if not self.future.done():
            self.future.set_exception(OSError(cause))
