"""What a service has from its start to its end, beside its requests: a database with its newest schema, and what runs by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData

from cordee.services.base.database import Database
from cordee.services.base.migrate import HEAD, migrate


@contextlib.asynccontextmanager
async def opened(database: Database, history: Path, metadata: MetaData, wait_s: float) -> AsyncIterator[None]:
    """`database`, brought to the newest schema of `history` (see `migrate`), and closed behind the block, also where that could not be
    done: a service that cannot start is tried again and again. Raises DatabaseError and AwayError."""
    try:
        await migrate(database, history, metadata, wait_s, HEAD)
        yield
    finally:
        await database.close()


@contextlib.asynccontextmanager
async def beside(*runs: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`runs` are under way within the block and over behind it. Each goes on whatever goes wrong, until it is cancelled."""
    tasks = [asyncio.create_task(run) for run in runs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
