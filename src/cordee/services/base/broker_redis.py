"""Events through a stream of a Redis or Valkey: one stream, and a consumer group for each consumer.

All processes of a consumer go by one name, and one of them reads at a time (services/base/inbox.py): so what a killed one had been handed
and had not taken is the first that its successor reads, and order holds. FastStream's stream subscriber can either read what is new or
claim what others left, not one after the other; therefore this carrier speaks to the client itself.

The stream loses what every group has taken, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from cordee.config.sections.services import Events, EventsTls
from cordee.services.base.broker_tls import context
from cordee.services.base.carrier import Delivered
from cordee.services.base.outbox import Event

TLS = "rediss://"
NAME = "cordee"  # of whoever reads for a group
FIELD = b"event"
BLOCK_MS = 1000  # a silent stream is asked again after this
ANSWER_S = 10.0  # longer than BLOCK_MS: a server that is silent for this long is lost
BEGINNING, NEW = "0", ">"
EXISTS = "BUSYGROUP"


class StreamCarrier:
    """Port Carrier."""

    def __init__(self, settings: Events) -> None:
        self._stream = settings.name
        self._trim_every = settings.trim_every
        self._since_trim = 0
        url = settings.url.replace("valkey", "redis", 1) if settings.url.startswith("valkey") else settings.url
        # Its own limit on an exchange uses asyncio.wait_for, which before Python 3.12 may lose a cancellation: ours are around it.
        self._client: Any = Redis.from_url(
            url, socket_connect_timeout=settings.connect_s, socket_timeout=None, retry=Retry(NoBackoff(), 0), protocol=2,
            **_files(settings.tls, url),
        )  # fmt: skip

    async def open(self, consumers: Sequence[str]) -> None:
        for consumer in dict.fromkeys(consumers):
            try:
                async with asyncio.timeout(ANSWER_S):
                    await self._client.xgroup_create(self._stream, consumer, BEGINNING, mkstream=True)
            except ResponseError as error:
                if not str(error).startswith(EXISTS):
                    raise

    async def send(self, event: Event, body: bytes) -> None:
        async with asyncio.timeout(ANSWER_S):
            await self._client.xadd(self._stream, {FIELD: body})

    async def deliveries(self, consumer: str) -> AsyncGenerator[Delivered]:
        place = BEGINNING  # first what was handed over and not taken
        while True:
            block = BLOCK_MS if place == NEW else None
            async with asyncio.timeout(ANSWER_S):
                reply = await self._client.xreadgroup(consumer, NAME, {self._stream: place}, count=1, block=block)
            entries = reply[0][1] if reply else []
            if not entries:
                place = NEW
                continue
            ((number, fields),) = entries
            yield Delivered((fields or {}).get(FIELD, b""), partial(self._taken, consumer, number))

    async def close(self) -> None:
        await self._client.aclose()

    async def _taken(self, consumer: str, number: bytes) -> None:
        async with asyncio.timeout(ANSWER_S):
            await self._client.xack(self._stream, consumer, number)
            self._since_trim += 1
            if self._since_trim >= self._trim_every:
                self._since_trim = 0
                with contextlib.suppress(ResponseError):  # an older server; its stream is trimmed by who minds it
                    await self._trim()

    async def _trim(self) -> None:
        """Drop what lies before everything that some group has not taken."""
        oldest: list[tuple[int, int]] = []
        for group in await self._client.xinfo_groups(self._stream):
            oldest.append(_number(group["last-delivered-id"]))
            pending = await self._client.xpending(self._stream, group["name"])
            if pending["pending"]:
                oldest.append(_number(pending["min"]))
        if oldest:
            milliseconds, sequence = min(oldest)
            await self._client.xtrim(self._stream, minid=f"{milliseconds}-{sequence}", approximate=False)


def _files(tls: EventsTls, url: str) -> dict[str, Any]:
    """What is said beside the URL, as the client calls it. What the URL says itself (`?ssl_ca_certs=…`) goes before. Raises TlsError."""
    if tls == EventsTls() or not url.startswith(TLS):
        return {}
    context(tls)  # or it is only found out in the middle of a handshake, and without a name
    named = {"ssl_ca_certs": tls.ca, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    return {name: path for name, path in named.items() if path}


def _number(entry: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = entry.decode().partition("-")
    return int(milliseconds), int(sequence)
