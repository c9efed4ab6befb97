"""One provider asked over HTTP: within a time and a size, never redirected, and in the clear only within this host.

What a provider says of itself is data of somebody else: the addresses in its description are looked at as well.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
import msgspec

from cordee.config.sections.services import Provider

CONNECTIONS_MAX = 8  # at once, to one provider; more wait within the time of their answer
SECURE = "https"
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_HEADERS = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "cordee"}


class ProviderError(Exception):
    """The provider did not answer as it should; the message is for the log."""


class Asker:
    """Asks one provider. `transport`: None for the network. `close` at the end."""

    def __init__(self, settings: Provider, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._settings = settings
        # The system's certificates, or those of SSL_CERT_FILE: a provider in the house has one of the house.
        self._client = httpx.AsyncClient(
            transport=transport, verify=ssl.create_default_context(), follow_redirects=False, trust_env=False,
            timeout=httpx.Timeout(settings.answer_s, connect=settings.connect_s),
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
        )  # fmt: skip

    async def get(self, url: str) -> dict[str, Any]:
        """The JSON object at `url`. Raises ProviderError."""
        status, said = await self._asked("GET", url, None, None)
        if status != httpx.codes.OK:
            raise ProviderError(f"{url} answers {status}")
        return said

    async def post(
        self, url: str, form: Mapping[str, str], login: tuple[str, str] | None
    ) -> tuple[int, dict[str, Any]]:
        """The status and the JSON object that answer a form. `login`: for HTTP Basic. Raises ProviderError."""
        return await self._asked("POST", url, form, login)

    async def close(self) -> None:
        await self._client.aclose()

    async def _asked(
        self, method: str, url: str, form: Mapping[str, str] | None, login: tuple[str, str] | None
    ) -> tuple[int, dict[str, Any]]:
        if not is_guarded(url):
            raise ProviderError(f"{url[:200]!r} is not https")
        content = bytearray()
        try:
            async with (
                asyncio.timeout(self._settings.answer_s),
                self._client.stream(method, url, data=form, auth=login, headers=_HEADERS) as response,
            ):
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise ProviderError(f"{url} answers with an encoding that was not asked for")
                async for piece in response.aiter_raw():
                    content += piece
                    if len(content) > self._settings.answer_bytes_max:
                        raise ProviderError(f"{url} answers with more than {self._settings.answer_bytes_max} bytes")
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError) as error:
            raise ProviderError(f"{url}: {type(error).__name__} {error}") from error
        finally:
            self._client.cookies.clear()  # what it sets for one person is not for the next
        try:
            said = msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ProviderError(f"{url} answers {response.status_code} and no JSON") from error
        if not isinstance(said, dict):
            raise ProviderError(f"{url} answers {response.status_code} and no object")
        return response.status_code, said


def is_guarded(url: str) -> bool:
    """Whether nobody on the way can read or change what is said there: https, or a loopback address."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    if not parts.hostname or "@" in parts.netloc or not url.isascii() or not url.isprintable():
        return False
    return parts.scheme == SECURE or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
