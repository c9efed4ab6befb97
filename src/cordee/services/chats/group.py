"""Records that wait for the database at the same moment are written in one transaction: one lock, one sync to disk for all of them.

While one group is being written the next one gathers, so a single record waits for nothing, and many at once cost little more than one.
When a group is refused, each of it is tried alone: what is wrong with one is not the others' trouble. (D. DeWitt et al., "Implementation
techniques for main memory database systems", 1984: group commit.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.database import AwayError, Database

GROUP_MAX = 64  # records of one transaction: a writer of another process waits no longer for it than for a few syncs
Write = Callable[[AsyncConnection], Awaitable[None]]


class Group:
    """The writer of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writing = asyncio.Lock()
        self._waiting: list[tuple[Write, asyncio.Future[None]]] = []

    async def write(self, write: Write) -> None:
        """Run `write` in a transaction and return when that is committed. It may run again, in another one. Raises AwayError, and
        whatever it raises alone."""
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((write, written))
        async with self._writing:
            while not written.done():  # more than one group may wait
                await self._write_some()
        await written

    async def _write_some(self) -> None:
        """Those that have waited longest."""
        group = self._waiting[:GROUP_MAX]
        del self._waiting[:GROUP_MAX]
        try:
            if len(group) == 1 or not await self._are_written(group):
                for one in group:
                    await self._write_alone(*one)
        finally:
            for _, written in group:
                if not written.done():  # who wrote for all was cancelled
                    written.set_exception(AwayError("the writing was broken off; try again."))
                    written.exception()  # the cancelled one itself asks no more

    async def _are_written(self, group: list[tuple[Write, asyncio.Future[None]]]) -> bool:
        try:
            async with self._database.writing() as on:
                for write, _ in group:
                    await write(on)
        except AwayError as error:
            for _, written in group:
                written.set_exception(AwayError(str(error)))
            return True
        except Exception:  # one of them, or two that cannot stand together: found out by trying each alone
            return False
        for _, written in group:
            written.set_result(None)
        return True

    async def _write_alone(self, write: Write, written: asyncio.Future[None]) -> None:
        try:
            async with self._database.writing() as on:
                await write(on)
        except Exception as error:  # it is whoever waits for this one that is told
            written.set_exception(error)
        else:
            written.set_result(None)
