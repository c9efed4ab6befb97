"""One request to a process of this installation on its unix socket, and its whole answer: for what is asked rarely and waits long."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from cordee.http.client import Connection, Exchange
from cordee.http.pool import ConnectionPool


class AnswerError(Exception):
    """No whole answer came. The message says why."""


class _Receiver:
    def __init__(self, body_bytes_max: int) -> None:
        self.answered: asyncio.Future[tuple[int, dict[bytes, bytes], bytes]] = (
            asyncio.get_running_loop().create_future()
        )
        self._body_bytes_max = body_bytes_max
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._body = bytearray()

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self._status, self._headers = status, dict(headers)

    def body(self, data: bytes) -> None:
        self._body += data
        if len(self._body) > self._body_bytes_max:
            self._fail(f"the answer is longer than {self._body_bytes_max} bytes")

    def complete(self) -> None:
        if not self.answered.done():
            self.answered.set_result((self._status, self._headers, bytes(self._body)))

    def closed(self) -> None:
        self._fail("the answer has no length")

    def broken(self, cause: str, *, ran: bool) -> None:
        self._fail(cause)

    def _fail(self, cause: str) -> None:
        if not self.answered.done():
            self.answered.set_exception(AnswerError(cause))


class _Single:
    """In place of a pool: one connection for one exchange."""

    def keep(self, connection: Connection) -> None:
        connection.transport.close()

    def forget(self, connection: Connection) -> None:
        pass

    def send_again(self, exchange: Exchange) -> None:
        exchange.receiver.broken("it closed the connection", ran=True)


async def get(
    socket: str, target: str, headers: Sequence[tuple[str, str]], timeout_s: float, body_bytes_max: int
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers (names in small letters) and body. `socket`: the path of a unix socket; `timeout_s`: for everything. Raises
    AnswerError."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    receiver = _Receiver(body_bytes_max)
    exchange = Exchange(receiver, f"GET {target} HTTP/1.1\r\nhost: services\r\n{lines}\r\n".encode())
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            _, connection = await loop.create_unix_connection(
                lambda: Connection(cast(ConnectionPool, _Single())), socket
            )
            connection.send(exchange)
            return await receiver.answered
    except TimeoutError as error:
        raise AnswerError(f"no answer within {timeout_s:g} s") from error
    except OSError as error:
        raise AnswerError(error.strerror or type(error).__name__) from error
    finally:
        exchange.cancel()
