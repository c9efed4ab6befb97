"""Events through RabbitMQ, by FastStream: one topic exchange, and a durable queue for each consumer.

A queue hands its messages to one of its consumers at a time (single active consumer), one by one, so they stay in order also when a
second process stands ready. Messages are persistent and confirmed; one that reached no queue is refused instead of dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from faststream import AckPolicy
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.security import BaseSecurity

from cordee.config.sections.services import Events, EventsTls
from cordee.services.base.broker_tls import context
from cordee.services.base.carrier import Delivered
from cordee.services.base.cloudevents import CONTENT_TYPE
from cordee.services.base.outbox import Event

TLS = "amqps://"
ALL = "#"  # every routing key, which is the event's type


class RabbitCarrier:
    """Port Carrier."""

    def __init__(self, settings: Events) -> None:
        self._settings = settings
        self._lost = asyncio.Event()
        self._exchange = RabbitExchange(settings.name, type=ExchangeType.TOPIC, durable=True)
        self._broker = RabbitBroker(
            settings.url,
            timeout=settings.connect_s,
            default_channel=Channel(prefetch_count=1, publisher_confirms=True, on_return_raises=True),
            reconnect_interval=settings.retry_s,
            security=_security(settings),
            on_close=[self._closed],
            logger=None,
        )

    async def open(self, consumers: Sequence[str]) -> None:
        await self._broker.start()
        exchange = await self._broker.declare_exchange(self._exchange)
        for consumer in dict.fromkeys(consumers):
            queue = await self._broker.declare_queue(self._queue(consumer))
            await queue.bind(exchange, ALL)

    async def send(self, event: Event, body: bytes) -> None:
        await self._broker.publish(
            body, exchange=self._exchange, routing_key=event.type, mandatory=True, persist=True, message_id=event.id,
            content_type=CONTENT_TYPE,
        )  # fmt: skip

    async def deliveries(self, consumer: str) -> AsyncGenerator[Delivered]:
        subscriber = self._broker.subscriber(
            self._queue(consumer), self._exchange, ack_policy=AckPolicy.MANUAL, persistent=False
        )
        await subscriber.start()
        messages = aiter(subscriber)
        lost = asyncio.create_task(self._lost.wait())
        try:
            while True:
                coming = asyncio.ensure_future(anext(messages))
                try:
                    await asyncio.wait((coming, lost), return_when=asyncio.FIRST_COMPLETED)
                    if lost.done():
                        raise ConnectionError("the broker closed the connection")
                    message = coming.result()
                finally:
                    coming.cancel()
                yield Delivered(message.body, message.ack)
        finally:
            lost.cancel()

    async def close(self) -> None:
        await self._broker.stop()

    def _closed(self, _connection: object, _error: BaseException | None) -> None:
        """Of its own the client would connect again, and consume nothing from then on."""
        self._lost.set()

    def _queue(self, consumer: str) -> RabbitQueue:
        more: Any = {"x-queue-type": self._settings.rabbitmq_queues, "x-single-active-consumer": True}
        name = f"{self._settings.name}.{consumer}"
        return RabbitQueue(name, durable=True, arguments=more, robust=False, routing_key=ALL)


def _security(settings: Events) -> BaseSecurity | None:
    """None: as the URL says, which may name files itself (`?cafile=…`). Raises TlsError."""
    if settings.tls == EventsTls() or not settings.url.startswith(TLS):
        return None
    return BaseSecurity(ssl_context=context(settings.tls))
