"""What a service does about the events of others: each has its effect once, however often it is delivered.

Which events a service has handled stands in its own database, written in the transaction of what it did about them. So a repeat is
known and passed over, and an event that was handled half is one that was not handled at all. One process of a service listens to a
shared broker at a time, by a lease, and each transaction asks whether it still does: one that paused and was replaced writes nothing.

An event that cannot be handled holds up those behind it, for a number of tries; then it is put aside (`inbox_parked`), said in the
log, and tried once more whenever a process begins to listen, which is what happens after a repair. A database that is away is not the
event's fault and is waited for. (G. Hohpe, B. Woolf, "Idempotent Receiver"; C. Richardson, "Transactional outbox" for the other side.)
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase
from functools import partial

from sqlalchemy import Column, Float, Index, MetaData, String, Table, Text, delete, insert, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.config.sections.services import InboxSettings
from cordee.domain.record import record
from cordee.services.base import lease
from cordee.services.base.broker import Broker
from cordee.services.base.cloudevents import read, written
from cordee.services.base.database import IDENTIFIER, AwayError, Database
from cordee.services.base.lease import Lease
from cordee.services.base.outbox import Event

Handler = Callable[[AsyncConnection, Event], Awaitable[None]]
ERROR_CHARACTERS = 512
FORGET_S = 3600.0  # between two looks for what is known long enough
RENEWALS = 3  # of a lease, in its length
AGAIN_MAX = 1000  # events put aside that are tried once more at a start
_log = logging.getLogger(__name__)


class FencedError(Exception):
    """Another process listens now; what this one was about to write is refused."""


@record
class Tables:
    """Those of an inbox."""

    seen: Table
    parked: Table
    leases: Table


def tables(metadata: MetaData) -> Tables:
    """As part of a service's schema."""
    seen = Table(
        "inbox", metadata, Column("id", IDENTIFIER, primary_key=True), Column("source", String(128), primary_key=True),
        Column("at", Float(53), nullable=False),
    )  # fmt: skip
    Index("inbox_at", seen.c.at)
    parked = Table(
        "inbox_parked", metadata, Column("id", IDENTIFIER, primary_key=True), Column("source", String(128), primary_key=True),
        Column("event", Text, nullable=False), Column("error", String(ERROR_CHARACTERS), nullable=False),
        Column("at", Float(53), nullable=False),
    )  # fmt: skip
    return Tables(seen, parked, lease.table(metadata, "inbox_lease"))


class Inbox:
    """The events that reach the service `name`. `subscribe` first, then `run` in any number of processes."""

    def __init__(
        self, name: str, database: Database, tables: Tables, settings: InboxSettings, now: Callable[[], float]
    ) -> None:
        self._name = name
        self._database = database
        self._seen = tables.seen
        self._parked = tables.parked
        self._settings = settings
        self._now = now
        self._lease = Lease(tables.leases, name, settings.lease_s)
        self._handlers: list[tuple[str, Handler]] = []
        self._tries: Counter[str] = Counter()
        self._forgot_at = 0.0

    def subscribe(self, pattern: str, handler: Handler) -> None:
        """Events whose type matches (`cordee.batches.batch.*`) are given to `handler`, in the transaction that says so. It may be
        given one again whose transaction was rolled back, and does nothing outside the transaction that it could not repeat."""
        self._handlers.append((pattern, handler))

    async def take(self, event: Event, number: int | None = None) -> None:
        """Do what is to be done about an event, once. `number`: of the lease under which it came; None in a process of its own broker.

        Raises AwayError, FencedError, and whatever a handler raised, until the event is put aside."""
        handlers = [handler for pattern, handler in self._handlers if fnmatchcase(event.type, pattern)]
        if not handlers:
            return
        try:
            async with self._database.writing() as on:
                await self._fence(on, number)
                if await self._is_new(on, event):
                    for handler in handlers:
                        await handler(on, event)
        except (AwayError, FencedError):
            raise
        except Exception as error:
            self._tries[event.id] += 1
            if self._tries[event.id] < self._settings.tries_max:
                raise
            await self._put_aside(event, error, number)
        self._tries.pop(event.id, None)
        await self._forget()

    async def run(self, broker: Broker) -> None:
        """Listen until cancelled."""
        if broker.is_local:  # each event comes to one process only, because one process relays it
            await self._retry_parked(None)
            await broker.consume(self._name, self.take)
            return
        while True:
            number = None
            try:
                number = await self._lease.take(self._database, self._now())
                if number is not None:
                    await self._listen(broker, number)
            except (AwayError, FencedError) as error:
                _log.warning("%s: events wait: %s", self._name, error)
            except Exception as error:
                # Whatever it is, events that nobody hears are worse than one more try.
                _log.error("%s: events wait: listening failed", self._name, exc_info=error)
            finally:
                if number is not None:
                    with contextlib.suppress(AwayError):
                        await self._lease.give_back(self._database)
            await asyncio.sleep(self._settings.lease_s / RENEWALS)

    async def parked(self, limit: int) -> list[tuple[Event, str]]:
        """What was put aside, the oldest first, with what was wrong. Raises AwayError."""
        async with self._database.reading() as on:
            rows = (await on.execute(select(self._parked).order_by(self._parked.c.at).limit(limit))).all()
        return [(read(row.event.encode()), row.error) for row in rows]

    async def _listen(self, broker: Broker, number: int) -> None:
        """As long as the lease is held."""
        self._tries.clear()
        await self._retry_parked(number)
        listening = asyncio.ensure_future(broker.consume(self._name, partial(self.take, number=number)))
        try:
            while not listening.done():
                await asyncio.wait((listening,), timeout=self._settings.lease_s / RENEWALS)
                if await self._lease.take(self._database, self._now()) != number:
                    _log.warning("%s: another process listens now", self._name)
                    return
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _fence(self, on: AsyncConnection, number: int | None) -> None:
        if number is not None and not await self._lease.holds(on, number):
            raise FencedError(f"{self._name}: another process listens now")

    async def _is_new(self, on: AsyncConnection, event: Event) -> bool:
        """Note it; whether it had not been. A second transaction with the same one waits for the first to end."""
        dialect = postgresql if self._database.is_postgres else sqlite
        noted = dialect.insert(self._seen).values(id=event.id, source=event.source, at=self._now())
        return bool((await on.execute(noted.on_conflict_do_nothing())).rowcount)

    async def _put_aside(self, event: Event, error: Exception, number: int | None) -> None:
        said = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS]
        c = self._parked.c
        try:
            async with self._database.writing() as on:
                await self._fence(on, number)
                if await self._is_new(on, event):
                    await on.execute(
                        insert(self._parked).values(
                            id=event.id, source=event.source, event=written(event).decode(), error=said, at=self._now()
                        )
                    )
                    beyond = select(c.at).order_by(c.at.desc()).offset(self._settings.parked_max).limit(1)
                    await on.execute(delete(self._parked).where(c.at <= beyond.scalar_subquery()))
        except IntegrityError:
            return  # it lies there already
        _log.error("%s: event %s (%s) is put aside: %s", self._name, event.id, event.type, said, exc_info=error)

    async def _retry_parked(self, number: int | None) -> None:
        """Once each; what still cannot be handled stays. Never raises."""
        try:
            for event, _ in await self.parked(AGAIN_MAX):
                await self._again(event, number)
        except AwayError as error:
            _log.warning("%s: what was put aside waits: %s", self._name, error)

    async def _again(self, event: Event, number: int | None) -> None:
        c = self._parked.c
        try:
            async with self._database.writing() as on:
                await self._fence(on, number)
                gone = await on.execute(delete(self._parked).where((c.id == event.id) & (c.source == event.source)))
                if gone.rowcount:
                    for pattern, handler in self._handlers:
                        if fnmatchcase(event.type, pattern):
                            await handler(on, event)
        except AwayError:
            raise
        except Exception as error:
            # It was said when it was put aside; this is one more try, not one more complaint.
            _log.warning("%s: event %s stays aside: %s", self._name, event.id, type(error).__name__)

    async def _forget(self) -> None:
        now = self._now()
        if now - self._forgot_at < FORGET_S:
            return
        self._forgot_at = now
        async with self._database.writing() as on:
            await on.execute(delete(self._seen).where(self._seen.c.at < now - self._settings.kept_s))
