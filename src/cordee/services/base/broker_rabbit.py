"""Events through RabbitMQ, by FastStream: one topic exchange, and a durable queue for each consumer.

A queue hands its messages to one of its consumers at a time (single active consumer), one by one, so they stay in order also when a
second process stands ready. Messages are persistent and confirmed; one that reached no queue is refused instead of dropped.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from faststream import AckPolicy
from faststream.rabbit import Channel, ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue

from cordee.config.sections.services import Events
from cordee.services.base.carrier import Delivered
from cordee.services.base.cloudevents import CONTENT_TYPE
from cordee.services.base.outbox import Event

ALL = "#"  # every routing key, which is the event's type


class RabbitCarrier:
    """Port Carrier."""

    def __init__(self, settings: Events) -> None:
        self._settings = settings
        self._exchange = RabbitExchange(settings.name, type=ExchangeType.TOPIC, durable=True)
        self._broker = RabbitBroker(
            settings.url,
            timeout=settings.connect_s,
            default_channel=Channel(prefetch_count=1, publisher_confirms=True, on_return_raises=True),
            reconnect_interval=settings.retry_s,
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
        async for message in subscriber:
            yield Delivered(message.body, message.ack)

    async def close(self) -> None:
        await self._broker.stop()

    def _queue(self, consumer: str) -> RabbitQueue:
        more: Any = {"x-queue-type": self._settings.rabbitmq_queues, "x-single-active-consumer": True}
        name = f"{self._settings.name}.{consumer}"
        return RabbitQueue(name, durable=True, arguments=more, robust=False, routing_key=ALL)
