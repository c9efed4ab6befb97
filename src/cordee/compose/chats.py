"""`cordee chats rebuild`: the projections of the chats made anew, beside the services or without them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from cordee.config.tree import Config
from cordee.services.base.database import AwayError, DatabaseError, connect
from cordee.services.base.migrate import HEAD, migrate
from cordee.services.chats.app import HISTORY, NAME, log_of
from cordee.services.chats.rebuild import rebuild as rebuild_all
from cordee.services.chats.tables import metadata

_TOLD_EVERY = 1000  # streams


class ChatsError(Exception):
    """It was not done, or not to the end; the message says how to go on."""


def rebuild(config: Config, data: Path, after: str, say: Callable[[str], None]) -> int:
    """Make all projections anew and return of how many streams. Raises ChatsError."""
    settings = config.services.chats
    if not settings.database.url and not (data / "services" / f"{NAME}.db").exists():
        raise ChatsError(f"there is no database of chats in {data}; say where with --data or --config")
    last = [after]

    def told(stream: str, count: int) -> None:
        last[0] = stream
        if count % _TOLD_EVERY == 0:
            say(f"{count} streams, the last is {stream}")

    async def through() -> int:
        database = connect(settings.database, NAME, data)
        try:
            await migrate(database, HISTORY, metadata, settings.database.migrate_wait_s, HEAD)
            return await rebuild_all(log_of(settings), database, after, told)
        finally:
            await database.close()

    try:
        return asyncio.run(through())
    except (AwayError, DatabaseError) as error:
        on = f"; go on with --after {last[0]}" if last[0] else ""
        raise ChatsError(f"the rebuild stopped: {error}{on}") from error
