"""Events leave a service through a table of its own database, written in the transaction of the change that they tell of.

So an event exists exactly if its change does, whether or not a broker is there. A relay hands the events on, in the order in which
they were written, at least once: one that was published but not yet marked when the relay died is published again, with the same id,
by which a consumer knows it. Of several processes one relays at a time, by a lease in the database.

On PostgreSQL two transactions at once may commit in another order than their events were numbered. Changes of one object wait for
each other's row, so the events of one subject are always in order; between subjects there is none to keep. (C. Richardson,
"Transactional outbox"; CloudEvents 1.0 for the envelope.)
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.config.sections.services import OutboxSettings
from cordee.domain.record import record
from cordee.services.base.database import IDENTIFIER, AwayError, Database
from cordee.services.base.identifiers import new

SPEC_VERSION = "1.0"
TYPE_CHARACTERS = 128
_LEASE = "relay"
_log = logging.getLogger(__name__)


@record
class Event:
    """What happened to what. `source` is the service, `subject` the object, `time` in seconds of the epoch; `data` is JSON
    and holds no secret."""

    id: str
    source: str
    type: str
    subject: str
    tenant: str
    time: float
    data: str


def envelope(event: Event, iso_time: Callable[[float], str]) -> bytes:
    """The event in CloudEvents' JSON format."""
    fields = {
        "specversion": SPEC_VERSION,
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": iso_time(event.time),
        "datacontenttype": "application/json",
        "tenant": event.tenant,
        "data": json.loads(event.data),
    }
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


class Publisher(Protocol):
    """Where events go. Returns when the event is kept by whoever took it; raises when it is not, and is asked again."""

    async def publish(self, event: Event) -> None: ...


class MemoryPublisher:
    """In the same process: hands each event to its listeners, in order. An event counts as taken when all of them took it."""

    def __init__(self, listeners: Sequence[Callable[[Event], None]] = ()) -> None:
        self._listeners = tuple(listeners)

    async def publish(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)


def tables(metadata: MetaData) -> tuple[Table, Table]:
    """The outbox and the lease of its relay, as part of a service's schema."""
    outbox = Table(
        "outbox",
        metadata,
        Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("id", IDENTIFIER, nullable=False),
        Column("source", String(TYPE_CHARACTERS), nullable=False),
        Column("type", String(TYPE_CHARACTERS), nullable=False),
        Column("subject", IDENTIFIER, nullable=False),
        Column("tenant", IDENTIFIER, nullable=False),
        Column("time", Float(53), nullable=False),
        Column("data", JSON, nullable=False),
        Column("sent_at", Float(53)),
        sqlite_autoincrement=True,  # a number is never used twice, also after old ones are deleted
    )
    Index(
        "outbox_unsent",
        outbox.c.number,
        sqlite_where=outbox.c.sent_at.is_(None),
        postgresql_where=outbox.c.sent_at.is_(None),
    )
    Index("outbox_sent", outbox.c.sent_at)
    lease = Table(
        "outbox_lease",
        metadata,
        Column("name", String(32), primary_key=True),
        Column("holder", IDENTIFIER, nullable=False),
        Column("until", Float(53), nullable=False),
    )
    return outbox, lease


class Outbox:
    """The events of one service. `append` inside a transaction; the relay runs beside, in any number of processes."""

    def __init__(self, source: str, outbox: Table, lease: Table, settings: OutboxSettings) -> None:
        self._source = source
        self._outbox = outbox
        self._lease = lease
        self._settings = settings
        self._holder = new("relay")

    async def append(
        self, connection: AsyncConnection, now: float, what: str, subject: str, tenant: str, data: Mapping[str, Any]
    ) -> None:
        """Tell, in the transaction of `connection`, that `what` happened to `subject`. `data` must be plain JSON without secrets."""
        await connection.execute(
            insert(self._outbox).values(
                id=new("event"), source=f"cordee/{self._source}", type=f"cordee.{self._source}.{what}",
                subject=subject, tenant=tenant, time=now, data=dict(data),
            )
        )  # fmt: skip

    async def relay(self, database: Database, publisher: Publisher, now: Callable[[], float]) -> int:
        """Hand on at most one batch and return how many were taken; 0 also while another process relays. Stops at the first
        event that is not taken: what stands behind it must not overtake. Raises AwayError."""
        began = now()
        if not await self._take_lease(database, began):
            return 0
        sent: list[int] = []
        try:
            for number, event in await self._unsent(database):
                if now() - began > self._settings.lease_s - self._settings.publish_s:
                    break  # somebody else might begin before this one is through
                try:
                    async with asyncio.timeout(self._settings.publish_s):
                        await publisher.publish(event)
                except Exception as error:
                    # Whatever a broker's client raises means the same: not taken, asked again at the next look.
                    _log.warning("event %s of %s was not taken: %s", event.id, event.source, type(error).__name__)
                    break
                sent.append(number)
        finally:
            if sent:
                await self._mark(database, sent, now())
        return len(sent)

    async def forget(self, database: Database, now: float) -> int:
        """Delete what was sent long ago and return how many."""
        async with database.writing() as connection:
            old = delete(self._outbox).where(self._outbox.c.sent_at < now - self._settings.kept_s)
            return (await connection.execute(old)).rowcount

    async def run(self, database: Database, publisher: Publisher, now: Callable[[], float]) -> None:
        """Relay until cancelled. A database that is away is asked again."""
        while True:
            taken = 0
            try:
                taken = await self.relay(database, publisher, now)
                if not taken:
                    await self.forget(database, now())
            except AwayError as error:
                _log.warning("events wait: %s", error)
            except Exception as error:
                # Whatever it is, events that nobody hands on are worse than one more try; nothing is lost meanwhile.
                _log.error("events wait: handing them on failed", exc_info=error)
            if taken < self._settings.batch_max:
                await asyncio.sleep(self._settings.poll_s)

    async def _take_lease(self, database: Database, now: float) -> bool:
        lease, until = self._lease, now + self._settings.lease_s
        mine = (lease.c.name == _LEASE) & ((lease.c.holder == self._holder) | (lease.c.until < now))
        try:
            async with database.writing() as connection:
                taken = await connection.execute(update(lease).where(mine).values(holder=self._holder, until=until))
                if taken.rowcount:
                    return True
                if (await connection.execute(select(lease.c.name).where(lease.c.name == _LEASE))).first():
                    return False
                await connection.execute(insert(lease).values(name=_LEASE, holder=self._holder, until=until))
                return True
        except IntegrityError:
            return False  # two first ones at once; the other one was quicker

    async def _unsent(self, database: Database) -> list[tuple[int, Event]]:
        o = self._outbox.c
        query = select(self._outbox).where(o.sent_at.is_(None)).order_by(o.number).limit(self._settings.batch_max)
        async with database.reading() as connection:
            rows = (await connection.execute(query)).all()
        return [
            (row.number, Event(row.id, row.source, row.type, row.subject, row.tenant, row.time, json.dumps(row.data)))
            for row in rows
        ]

    async def _mark(self, database: Database, numbers: list[int], now: float) -> None:
        o = self._outbox.c
        async with database.writing() as connection:
            await connection.execute(
                update(self._outbox).where(o.number == bindparam("sent_number")).values(sent_at=now),
                [{"sent_number": number} for number in numbers],
            )
