"""What services tell each other goes through a broker: within the process, or through RabbitMQ, Kafka, or a Redis or Valkey stream.

Decides when a broker counts as lost and how it is come back to; which broker it is, is a `Carrier`. Promised alike by all of them:
`publish` returns when the broker keeps the event; each consumer is handed every event at least once, one after another, those of one
subject in the order in which they were published, and the next one only when it has taken this one. An event that a killed consumer
had not taken comes to its successor. A consumer's place exists before the first event does, so that none is missed by who starts late.

A connection that failed is never mended, but replaced: that is the same whatever was wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

from cordee.config.sections.services import Events
from cordee.services.base.carrier import Carrier, Delivered
from cordee.services.base.cloudevents import read, written
from cordee.services.base.outbox import Event

CONSUMERS = ("webhooks",)  # the services that hear what others tell
CLOSE_S = 2.0  # for a connection to be put down; then it is left to the system
Take = Callable[[Event], Awaitable[None]]
_log = logging.getLogger(__name__)


class NotHeardError(Exception):
    """Who is to hear events is not there yet; what is told waits in the outbox."""


class Broker(Protocol):
    """Publisher, and the source of what others published. `is_local`: events stay in this process."""

    @property
    def is_local(self) -> bool: ...

    async def publish(self, event: Event) -> None:
        """Raises whatever says that the event is not kept."""
        ...

    async def consume(self, consumer: str, take: Take) -> None:
        """Hand events to `take` until cancelled. One that it raises for is handed to it again, before any other."""
        ...

    async def close(self) -> None: ...


def open_broker(settings: Events, consumers: Sequence[str] = CONSUMERS) -> Broker:
    """The broker that `settings.url` names; it is connected to when it is needed. `consumers`: all that there are, in whichever
    process they run."""
    scheme = urlsplit(settings.url).scheme
    if not scheme:
        return MemoryBroker(consumers)
    return CarriedBroker(settings, _carrier(scheme), tuple(consumers))


class MemoryBroker:
    """In the same process. An event is kept when all consumers have taken it: until then it stays in the outbox it came from."""

    is_local = True

    def __init__(self, consumers: Sequence[str] = ()) -> None:
        self._awaited = frozenset(consumers)
        self._takes: dict[str, Take] = {}

    async def publish(self, event: Event) -> None:
        missing = self._awaited - self._takes.keys()
        if missing:
            raise NotHeardError(f"{', '.join(sorted(missing))} cannot hear yet")
        for take in tuple(self._takes.values()):
            await take(event)

    async def consume(self, consumer: str, take: Take) -> None:
        assert consumer not in self._takes, f"{consumer} hears already"
        self._takes[consumer] = take
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            del self._takes[consumer]

    async def close(self) -> None:
        pass


class CarriedBroker:
    """A broker at the other end of carriers: one for all that is published, one for each consumer."""

    is_local = False

    def __init__(self, settings: Events, carrier: Callable[[Events], Carrier], consumers: tuple[str, ...]) -> None:
        self._settings = settings
        self._carrier = carrier
        self._consumers = consumers
        self._out: Carrier | None = None
        self._opening = asyncio.Lock()

    async def publish(self, event: Event) -> None:
        carrier = await self._opened()
        try:
            await carrier.send(event, written(event))
        except BaseException:  # given up by who waits, too: what its connection is in the middle of, nobody knows
            await self._drop(carrier)
            raise

    async def consume(self, consumer: str, take: Take) -> None:
        wait_s = self._settings.retry_s
        while True:
            carrier: Carrier | None = None
            try:
                carrier = self._carrier(self._settings)
                async with asyncio.timeout(self._settings.connect_s):
                    await carrier.open((*self._consumers, consumer))
                async with contextlib.aclosing(carrier.deliveries(consumer)) as deliveries:
                    async for delivered in deliveries:
                        await self._taken(delivered, take)
                        wait_s = self._settings.retry_s
            except Exception as error:
                # Whatever a broker's client raises means the same: this connection has ended.
                _log.warning("%s hears nothing for now: %s: %s", consumer, type(error).__name__, str(error)[:200])
            finally:
                if carrier is not None:
                    await _close(carrier)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, self._settings.retry_s_max)

    async def close(self) -> None:
        if self._out is not None:
            await self._drop(self._out)

    async def _taken(self, delivered: Delivered, take: Take) -> None:
        try:
            event = read(delivered.body)
        except ValueError as error:
            _log.error("something in %s is passed over: %s", self._settings.name, error)
        else:
            wait_s = self._settings.retry_s
            while True:
                try:
                    await take(event)
                    break
                except Exception as error:
                    # What stands behind it must not overtake; who takes it gives up by itself after some tries.
                    _log.warning("event %s was not taken: %s", event.id, type(error).__name__)
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, self._settings.retry_s_max)
        await delivered.take()

    async def _opened(self) -> Carrier:
        async with self._opening:
            if self._out is None:
                carrier = self._carrier(self._settings)
                try:
                    async with asyncio.timeout(self._settings.connect_s):
                        await carrier.open(self._consumers)
                except BaseException:
                    await _close(carrier)
                    raise
                self._out = carrier
            return self._out

    async def _drop(self, carrier: Carrier) -> None:
        if self._out is carrier:
            self._out = None
        await _close(carrier)


async def _close(carrier: Carrier) -> None:
    try:
        async with asyncio.timeout(CLOSE_S):
            await carrier.close()
    except Exception as error:  # it is gone either way
        _log.debug("a connection to the broker could not be closed: %s", type(error).__name__)


def _carrier(scheme: str) -> Callable[[Events], Carrier]:
    # Each client is heavy, and is loaded by who uses it alone.
    if scheme.startswith("amqp"):
        from cordee.services.base.broker_rabbit import RabbitCarrier  # noqa: PLC0415

        return RabbitCarrier
    if scheme.startswith("kafka"):
        from cordee.services.base.broker_kafka import KafkaCarrier  # noqa: PLC0415

        return KafkaCarrier
    from cordee.services.base.broker_redis import StreamCarrier  # noqa: PLC0415

    return StreamCarrier
