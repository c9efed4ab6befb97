"""What the law gives people over what is kept of them: all of it in a file, and the end of it. (GDPR, articles 15, 17 and 20.)"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import msgspec
from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.chats.log import Owner, Recorded
from cordee.services.chats.service import Service
from cordee.services.chats.tables import erasures, streams

_STREAMS_AT_ONCE = 100
_EVENTS_AT_ONCE = 200


async def export(service: Service, owner: Owner) -> AsyncGenerator[bytes]:
    """Every event of every stream of the owner, one JSON object a line, stream by stream in order. Each stream is read as it is at
    that moment; little of it is in memory at once. Raises AwayError."""
    last = ""
    while True:
        query = (
            select(streams.c.stream)
            .where(streams.c.tenant == owner.tenant, streams.c.subject == owner.subject)
            .where(streams.c.stream > last, streams.c.erased_at.is_(None))
            .order_by(streams.c.stream)
            .limit(_STREAMS_AT_ONCE)
        )
        async with service.database.reading() as on:
            names = list((await on.execute(query)).scalars())
        for name in names:
            async for line in _lines(service, owner, name):
                yield line
        if len(names) < _STREAMS_AT_ONCE:
            return
        last = names[-1]


async def tell_export(service: Service, owner: Owner, by: str) -> None:
    """Write down that somebody took the owner's history with them."""
    async with service.database.writing() as on:
        subject = owner.subject or owner.tenant
        await service.outbox.append(on, service.now(), "history.exported", subject, owner.tenant, {"by": by})


async def erase(service: Service, tenant: str, subject: str | None) -> bool:
    """Erase at most `erase_max` streams of the tenant, or of one user or application in it, and return whether nothing is left. What
    waits on a disk from before will not come back."""
    now = service.now()
    whose = [streams.c.tenant == tenant, streams.c.erased_at.is_(None)]
    if subject is not None:
        whose.append(streams.c.subject == subject)
    query = select(streams.c.stream, streams.c.subject).where(*whose).order_by(streams.c.stream)
    async with service.database.writing() as on:
        await _remember(on, tenant, subject or "", now)
        for row in (await on.execute(query.limit(service.settings.erase_max))).all():
            await service.log.erase(on, row.stream, Owner(tenant, row.subject), now)
        left = await on.execute(select(func.count()).select_from(query.limit(1).subquery()))
        is_done = left.scalar_one() == 0
        if is_done:
            about = {"user": subject or ""}
            await service.outbox.append(on, now, "history.erased", subject or tenant, tenant, about)
    return is_done


async def _remember(on: AsyncConnection, tenant: str, subject: str, now: float) -> None:
    await on.execute(delete(erasures).where(erasures.c.tenant == tenant, erasures.c.subject == subject))
    await on.execute(insert(erasures).values(tenant=tenant, subject=subject, at=now))


async def _lines(service: Service, owner: Owner, name: str) -> AsyncGenerator[bytes]:
    after = 0
    while True:
        async with service.database.reading() as on:
            found = await service.log.read(on, name, owner.tenant, after, _EVENTS_AT_ONCE)
        for one in found:
            yield _line(one)
        if len(found) < _EVENTS_AT_ONCE:
            return
        after = found[-1].version


def _line(one: Recorded) -> bytes:
    fields = {"stream": one.stream, "version": one.version, "type": one.type, "time": one.time, "data": one.data}
    return msgspec.json.encode(fields) + b"\n"
