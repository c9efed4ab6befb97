"""All that is read is made anew from the log, a stream at a time, while the service goes on.

Each stream is one transaction: until it is committed readers see what was there, from then on what the events say; whoever would append
to that stream waits that long, nobody else does. What has no stream any more goes at the end. Interrupted, it is begun again, or gone
on with behind the last stream that it told of.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.database import Database
from cordee.services.chats import index
from cordee.services.chats.log import Log
from cordee.services.chats.tables import conversations, items, responses, streams, texts

STREAMS_AT_ONCE = 100  # names in memory
_PROJECTED = (conversations.c.id, items.c.conversation, texts.c.conversation, responses.c.id)


async def rebuild(
    log: Log, database: Database, after: str = "", told: Callable[[str, int], None] = lambda stream, count: None
) -> int:
    """Make every projection anew and return of how many streams. `told(stream, count)` after each. Raises AwayError."""
    count = 0
    while True:
        query = (
            select(streams.c.stream, streams.c.tenant)
            .where(streams.c.stream > after, streams.c.erased_at.is_(None))
            .order_by(streams.c.stream)
            .limit(STREAMS_AT_ONCE)
        )
        async with database.reading() as on:
            rows = (await on.execute(query)).all()
        for row in rows:
            async with database.writing() as on:
                await log.remake(on, row.stream, row.tenant)
            count += 1
            told(row.stream, count)
        if len(rows) < STREAMS_AT_ONCE:
            break
        after = rows[-1].stream
    async with database.writing() as on:
        await _sweep(on)
    return count


async def _sweep(on: AsyncConnection) -> None:
    """Delete what belongs to no stream."""
    living = select(streams.c.stream).where(streams.c.erased_at.is_(None))
    for column in _PROJECTED:
        await on.execute(delete(column.table).where(column.not_in(living)))
    await index.sweep(on)
