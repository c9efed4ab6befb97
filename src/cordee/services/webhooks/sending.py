"""One request to a server that a user has named: to the address that was checked, once, without going where it is sent on to.

The name is looked up here, all its addresses are checked, and the connection goes to one of them: nobody looks the name up a second
time and finds another address (DNS rebinding). TLS is checked against the name. No proxy, no redirect, no cookie, no credential; what
the server answers is read for a bounded time and length, and thrown away but for the status.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

import httpcore

from cordee.domain.record import record
from cordee.services.webhooks.rules.addresses import Address, literal
from cordee.services.webhooks.rules.schedule import Tried
from cordee.services.webhooks.rules.target import ForbiddenError, Reach, Target, check, target_of

AGENT = "Cordee-Webhooks/1"
CONTENT_TYPE = "application/json"


@record
class Limits:
    """`connect_s`: to find and reach a server; `answer_s`: for all of it; `bytes_max`: read of the answer."""

    connect_s: float
    answer_s: float
    bytes_max: int


async def look_up(host: str, port: int) -> tuple[Address, ...]:
    """The addresses of a name, as this host's resolver knows them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(ip_address(str(place[0])) for *_, place in found))


class _Pinned(httpcore.AsyncNetworkBackend):
    """Connects to one address, whatever it is asked for."""

    def __init__(self, address: Address) -> None:
        self._address = str(address)
        self._plain = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return await self._plain.connect_tcp(self._address, port, timeout, local_address, socket_options)


class Sender:
    """`context`: whom TLS trusts; the system's authorities, unless a test says otherwise."""

    def __init__(self, reach: Reach, limits: Limits, context: ssl.SSLContext | None = None) -> None:
        self._reach = reach
        self._limits = limits
        self._context = context or ssl.create_default_context()

    async def send(self, url: str, headers: Mapping[str, str], body: str) -> Tried:
        """Never raises: what went wrong is part of what came of it."""
        try:
            async with asyncio.timeout(self._limits.answer_s):
                target = target_of(url)
                address = await self._address(target)
                return await self._post(target, address, headers, body.encode())
        except ForbiddenError as error:
            return Tried(0, f"the URL is refused: {error}")
        except TimeoutError:
            return Tried(0, f"no answer within {self._limits.answer_s:g} s")
        except httpcore.TimeoutException:
            return Tried(0, "no connection in time")
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError, ValueError) as error:
            return Tried(0, _words(error))

    async def _address(self, target: Target) -> Address:
        """The one to connect to. Raises ForbiddenError, OSError."""
        written = literal(target.host)
        if written is not None:
            addresses: tuple[Address, ...] = (written,)
        else:
            async with asyncio.timeout(self._limits.connect_s):
                addresses = await look_up(target.host, target.port)
        check(target, addresses, self._reach)
        return addresses[0]

    async def _post(self, target: Target, address: Address, headers: Mapping[str, str], body: bytes) -> Tried:
        url = httpcore.URL(
            scheme=target.scheme.encode(), host=target.host.encode(), port=target.port, target=target.target.encode()
        )
        fields = {
            "host": target.authority,
            "user-agent": AGENT,
            "content-type": CONTENT_TYPE,
            **dict(headers),
        }
        limits = {"timeout": {"connect": self._limits.connect_s, "read": self._limits.answer_s}}
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=self._context, max_connections=1, max_keepalive_connections=0, retries=0, http2=False,
                network_backend=_Pinned(address),
            ) as pool,
            pool.stream("POST", url, headers=list(fields.items()), content=body, extensions=limits) as response,
        ):  # fmt: skip
            tried = Tried(response.status, retry_after_s=_retry_after(response.headers))
            await self._drain(response)
            return tried

    async def _drain(self, response: httpcore.Response) -> None:
        """Read what little belongs to a polite end; a server that goes on talking is not listened to."""
        left = self._limits.bytes_max
        with contextlib.suppress(httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
            async for piece in response.aiter_stream():
                left -= len(piece)
                if left < 0:
                    return


def _retry_after(headers: Iterable[tuple[bytes, bytes]]) -> float | None:
    said = next((value for name, value in headers if name.lower() == b"retry-after"), b"")
    return float(said) if said.isdigit() and len(said) <= len("86400") else None


def _words(error: Exception) -> str:
    """What a user may be told: of a certificate what is wrong with it, of anything else the kind of failure."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not valid: {cause.verify_message}"
        if isinstance(cause, ssl.SSLError):
            return "TLS failed"
        if isinstance(cause, socket.gaierror):
            return "the host's name is not known"
        if isinstance(cause, ConnectionRefusedError):
            return "the connection was refused"
        cause = cause.__cause__ or cause.__context__
    return "the connection broke, or what came was not HTTP"
