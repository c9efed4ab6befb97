"""What happened to conversations and responses, told once and never changed: the append-only log behind the chats.

Streams are `conv_…` and `resp_…`. To append is to hold the stream's head (a row in `streams`) until the transaction ends, so two
writers of one stream follow each other, in any number of processes. Every projection is brought up to date in the same transaction: what
is read is never behind what was told. Who tells several streams in one transaction begins with the conversation, so that nobody waits for
another in a circle. Content goes only by `blank` and `erase`, which leave a tombstone without any. (G. Young, "CQRS
documents": the event log as the only truth, optimistic concurrency by the expected version.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Select, delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.base.identifiers import new
from cordee.services.chats.tables import events, streams

NEW = 0  # the version that a stream has before anything was told
ERASED = "erased"  # the type of the tombstone: all that is left of a stream


class ConflictError(Exception):
    """The stream is at another version than was expected: somebody else told something meanwhile. Read again and decide anew."""


class NoStreamError(Exception):
    """There is no such stream of this owner, or it was erased."""


@record
class Owner:
    """To whom a stream belongs: a tenant, and the user or application within it ("" for keys that belong to the tenant alone)."""

    tenant: str
    subject: str


@record
class Told:
    """Something that happened. `id` is fixed before the first try, so that a repeat is known; `data` is plain JSON."""

    id: str
    type: str
    data: Mapping[str, Any]


@record
class Recorded:
    """Something told, as it stands in the log. `data` is empty when it was blanked. `time`: seconds of the epoch."""

    id: str
    stream: str
    owner: Owner
    version: int
    position: int
    type: str
    time: float
    data: Mapping[str, Any]


class Projection(Protocol):
    """Tables made from events alone. Both methods run in the transaction of the one who calls, and ignore what is not theirs."""

    async def apply(self, on: AsyncConnection, recorded: Sequence[Recorded]) -> None:
        """Take in what was told to one stream, in order."""
        ...

    async def clear(self, on: AsyncConnection, stream: str) -> None:
        """Forget all of one stream."""
        ...


def told(what: str, data: Mapping[str, Any]) -> Told:
    """With an id of its own."""
    return Told(new("event"), what, data)


class Log:
    """The log and the projections that follow it. Every method runs in the transaction `on`, writing ones in a writing transaction."""

    def __init__(self, projections: Sequence[Projection] = ()) -> None:
        self._projections = tuple(projections)

    async def append(
        self,
        on: AsyncConnection,
        stream: str,
        owner: Owner,
        expected: int | None,
        happened: Sequence[Told],
        now: float,
        part_of: str = "",
    ) -> int:
        """Tell the stream what happened and return its version then.

        `expected`: the version that it must have now; NEW makes the stream; None takes it as it is, but it must be there. `part_of`: the
        conversation with which a new stream will be erased. Raises ConflictError, NoStreamError.
        """
        assert happened, "nothing happened"
        last = await self._advance(on, stream, owner, expected, len(happened), part_of)
        first = last - len(happened) + 1
        rows = [
            {"id": one.id, "stream": stream, "version": version, "type": one.type, "time": now, "data": dict(one.data)}
            for version, one in enumerate(happened, first)
        ]
        written = await on.execute(insert(events).returning(events.c.position, sort_by_parameter_order=True), rows)
        recorded = [
            Recorded(one.id, stream, owner, first + index, position, one.type, now, one.data)
            for index, (one, position) in enumerate(zip(happened, written.scalars(), strict=True))
        ]
        await self._apply(on, recorded)
        return last

    async def read(
        self, on: AsyncConnection, stream: str, tenant: str, after: int = 0, limit: int = 1000
    ) -> list[Recorded]:
        """At most `limit` events of the stream behind version `after`, in order; none of another tenant's."""
        query = _events().where(events.c.stream == stream, streams.c.tenant == tenant, events.c.version > after)
        return await _recorded(on, query.order_by(events.c.version).limit(limit))

    async def since(self, on: AsyncConnection, position: int, limit: int = 1000) -> list[Recorded]:
        """At most `limit` events of all streams behind `position`. On PostgreSQL what is committed later may get a lower position than
        what was seen; `settled` says up to where nothing more can come."""
        return await _recorded(
            on, _events().where(events.c.position > position).order_by(events.c.position).limit(limit)
        )

    async def settled(self, on: AsyncConnection) -> int:
        """The last position up to which everything is committed. Waits for running writers, and holds new ones until `on` ends: end
        it soon. Takes a writing transaction."""
        if on.dialect.name == "postgresql":
            await on.execute(
                text("LOCK TABLE events IN SHARE MODE")
            )  # positions are given under a lock that this waits for
        return int((await on.execute(select(func.coalesce(func.max(events.c.position), 0)))).scalar_one())

    async def is_told(self, on: AsyncConnection, event_id: str) -> bool:
        """Whether an event of this id is in the log."""
        return (await on.execute(select(events.c.position).where(events.c.id == event_id))).first() is not None

    async def is_erased(self, on: AsyncConnection, stream: str) -> bool:
        """Whether there was such a stream."""
        erased = select(streams.c.stream).where(streams.c.stream == stream, streams.c.erased_at.is_not(None))
        return (await on.execute(erased)).first() is not None

    async def version(self, on: AsyncConnection, stream: str, owner: Owner) -> int | None:
        """At which version the owner's stream is; None where there is none, or it was erased."""
        return (await on.execute(_heads(stream, owner))).scalar_one_or_none()

    async def blank(self, on: AsyncConnection, stream: str, owner: Owner, version: int) -> None:
        """Take the content out of one event of the stream; that it happened, and when, stays."""
        theirs = select(streams.c.stream).where(*_of(stream, owner))
        await on.execute(update(events).where(events.c.stream.in_(theirs), events.c.version == version).values(data={}))

    async def erase(self, on: AsyncConnection, stream: str, owner: Owner, now: float) -> bool:
        """Delete the stream and what is part of it, from the log and all projections; a tombstone without content stays. False where
        there is no such stream of this owner."""
        if not await self._erase(on, stream, owner, now):
            return False
        # Looked up only now: whoever makes a part holds the head of the whole, which is ours from here on.
        parts = await on.execute(
            select(streams.c.stream)
            .where(streams.c.part_of == stream, streams.c.tenant == owner.tenant, streams.c.subject == owner.subject)
            .where(streams.c.erased_at.is_(None))
            .order_by(streams.c.stream)
        )
        for part in parts.scalars().all():
            await self._erase(on, part, owner, now)
        return True

    async def remake(self, on: AsyncConnection, stream: str, tenant: str, piece: int = 1000) -> None:
        """Make the projections of one stream anew from its events, in one transaction: readers see them as they were until it is
        committed. `piece`: events in memory at once."""
        # Whoever would append waits here, so that nothing is told between the clearing and the last event.
        await on.execute(update(streams).where(streams.c.stream == stream).values(version=streams.c.version))
        for projection in self._projections:
            await projection.clear(on, stream)
        after = 0
        while found := await self.read(on, stream, tenant, after, piece):
            await self._apply(on, found)
            after = found[-1].version

    async def _apply(self, on: AsyncConnection, recorded: Sequence[Recorded]) -> None:
        for projection in self._projections:
            await projection.apply(on, recorded)

    async def _advance(
        self, on: AsyncConnection, stream: str, owner: Owner, expected: int | None, count: int, part_of: str
    ) -> int:
        """Take the head of the stream `count` versions further and hold it."""
        if part_of and (await on.execute(_heads(part_of, owner).with_for_update(read=True))).first() is None:
            raise NoStreamError(f"there is no stream {part_of}")
        if expected == NEW:
            dialect = postgresql if on.dialect.name == "postgresql" else sqlite
            head = dialect.insert(streams).on_conflict_do_nothing()
            made = await on.execute(
                head.values(stream=stream, tenant=owner.tenant, subject=owner.subject, part_of=part_of, version=count)
            )
            if not made.rowcount:
                raise ConflictError(f"{stream} is there already")
            return count
        mine = update(streams).where(*_of(stream, owner), streams.c.erased_at.is_(None))
        moved = await on.execute(mine.values(version=streams.c.version + count).returning(streams.c.version))
        last: int | None = moved.scalar_one_or_none()
        if last is None:
            raise NoStreamError(f"there is no stream {stream}")
        if expected is not None and last - count != expected:
            raise ConflictError(f"{stream} is at version {last - count}, not at {expected}")
        return last

    async def _erase(self, on: AsyncConnection, stream: str, owner: Owner, now: float) -> bool:
        gone = update(streams).where(*_of(stream, owner), streams.c.erased_at.is_(None))
        moved = await on.execute(gone.values(erased_at=now, version=streams.c.version + 1).returning(streams.c.version))
        version = moved.scalar_one_or_none()
        if version is None:
            return False
        await on.execute(delete(events).where(events.c.stream == stream))
        tombstone = {"id": new("event"), "stream": stream, "version": version, "type": ERASED, "time": now, "data": {}}
        position = (await on.execute(insert(events).values(tombstone).returning(events.c.position))).scalar_one()
        for projection in self._projections:
            await projection.clear(on, stream)
        await self._apply(on, [Recorded(tombstone["id"], stream, owner, version, position, ERASED, now, {})])
        return True


def _of(stream: str, owner: Owner) -> tuple[Any, ...]:
    return streams.c.stream == stream, streams.c.tenant == owner.tenant, streams.c.subject == owner.subject


def _heads(stream: str, owner: Owner) -> Select[int]:
    return select(streams.c.version).where(*_of(stream, owner), streams.c.erased_at.is_(None))


def _events() -> Select[Any]:
    return select(events, streams.c.tenant, streams.c.subject).join(streams, streams.c.stream == events.c.stream)


async def _recorded(on: AsyncConnection, query: Select[Any]) -> list[Recorded]:
    return [
        Recorded(
            row.id, row.stream, Owner(row.tenant, row.subject), row.version, row.position, row.type, row.time, row.data
        )
        for row in (await on.execute(query)).all()
    ]
