"""Events through Kafka, by FastStream: one topic, keyed by subject, and a group for each consumer that keeps how far it is.

All events of one subject lie in one partition, in order. The producer is idempotent and waits for all replicas in sync. One process of a
consumer reads at a time (services/base/inbox.py) and reads all partitions: so nobody has to agree with anybody about who reads which,
and the successor of a killed one need not wait until the group has missed it. What it has taken is committed after each event.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from urllib.parse import SplitResult, unquote, urlsplit

from faststream import AckPolicy
from faststream.kafka import KafkaBroker, TopicPartition
from faststream.kafka.schemas import Topic
from faststream.security import BaseSecurity, SASLPlaintext

from cordee.config.sections.services import Events
from cordee.services.base.broker_tls import context
from cordee.services.base.carrier import Delivered
from cordee.services.base.cloudevents import CONTENT_TYPE
from cordee.services.base.outbox import Event

TLS = "kafkas"  # the scheme
REQUEST_MS = 10_000  # longer than a broker holds back an answer while there is nothing to read


class KafkaCarrier:
    """Port Carrier."""

    def __init__(self, settings: Events) -> None:
        self._settings = settings
        parts = urlsplit(settings.url)
        self._broker = KafkaBroker(
            parts.netloc.rpartition("@")[2].split(","),
            acks="all",
            enable_idempotence=True,
            request_timeout_ms=REQUEST_MS,
            security=_security(parts, settings),
            logger=None,
        )

    async def open(self, consumers: Sequence[str]) -> None:
        name, rules = self._settings.name, self._settings
        await self._broker.start()
        await self._broker.config.broker_config.admin.create_topics(
            [Topic(name, num_partitions=rules.kafka_partitions, replication_factor=rules.kafka_replicas)]
        )

    async def send(self, event: Event, body: bytes) -> None:
        await self._broker.publish(
            body, topic=self._settings.name, key=event.subject.encode(), headers={"content-type": CONTENT_TYPE}
        )

    async def deliveries(self, consumer: str) -> AsyncGenerator[Delivered]:
        name = self._settings.name
        (topic,) = await self._broker.config.broker_config.admin.client.describe_topics([name])
        subscriber = self._broker.subscriber(
            partitions=[TopicPartition(name, part["partition"]) for part in topic["partitions"]],
            group_id=f"{name}.{consumer}",
            auto_offset_reset="earliest",
            ack_policy=AckPolicy.MANUAL,
            persistent=False,
        )
        try:
            await subscriber.start()
            async for message in subscriber:
                yield Delivered(message.body, message.ack)
        finally:
            await subscriber.stop()

    async def close(self) -> None:
        await self._broker.stop()


def _security(parts: SplitResult, settings: Events) -> BaseSecurity:
    """TLS, and user and password by SASL PLAIN, as the URL says. Raises TlsError."""
    tls = context(settings.tls) if parts.scheme == TLS else None
    if parts.username and parts.password:
        return SASLPlaintext(unquote(parts.username), unquote(parts.password), ssl_context=tls)
    return BaseSecurity(ssl_context=tls)
