"""Answers are recorded in the database, or, while it is away, on this server's disk; from there exactly once and in order.

As long as anything waits on disk, everything goes there: nothing overtakes what happened before it. Every event has its id before the first
try, so whatever became of a try that broke off (committed or not, nobody can know), the next one finds out by the id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import or_, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.config.sections.services import Spool as SpoolSettings
from cordee.domain.record import record
from cordee.services.base.database import AwayError, Database
from cordee.services.chats.group import Group
from cordee.services.chats.log import ConflictError, Log, NoStreamError, Owner, Told
from cordee.services.chats.spool import Spool, SpoolError
from cordee.services.chats.spooled import Spooled
from cordee.services.chats.tables import erasures
from cordee.services.chats.telling import CONVERSATION

Also = Callable[[AsyncConnection], Awaitable[None]]
_log = logging.getLogger(__name__)


@record
class Telling:
    """What one stream is told: the arguments of `Log.append`."""

    stream: str
    owner: Owner
    expected: int | None
    happened: tuple[Told, ...]
    part_of: str = ""


@record
class Waiting:
    """Something that waits on disk to be told. `time`: when it was recorded, seconds of the epoch."""

    time: float
    telling: Telling


class _Happened(msgspec.Struct, array_like=True):
    id: str
    type: str
    data: dict[str, Any]


class _Telling(msgspec.Struct, array_like=True):
    stream: str
    tenant: str
    subject: str
    expected: int | None
    part_of: str
    happened: list[_Happened]


class _Entry(msgspec.Struct, array_like=True):
    time: float
    tellings: list[_Telling]


_DECODER = msgspec.json.Decoder(_Entry)


class Recorder:
    """One per process. `run` beside the requests brings to the database what waits on disk."""

    def __init__(
        self, log: Log, database: Database, folder: Path, settings: SpoolSettings, now: Callable[[], float]
    ) -> None:
        self._log = log
        self._database = database
        self._settings = settings
        self._spool = Spool(folder, settings)
        self._spooled = Spooled()
        self._now = now
        self._group = Group(database)
        self._attempts: set[asyncio.Task[None]] = set()  # as many as there are connections, and those who wait for one
        self._adding = asyncio.Lock()
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []

    @property
    def is_behind(self) -> bool:
        """Whether anything waits on disk."""
        return not self._spool.is_empty

    async def record(self, tellings: Sequence[Telling], also: Also | None = None) -> bool:
        """Tell the streams, all or none, in this order: True in the database, together with `also`; False on disk, when
        `also` was done only if a late try was committed after all.

        On disk nothing is checked: what turns out to be refused later is dropped. Raises ConflictError and NoStreamError from the
        database, SpoolError when neither takes it.
        """
        assert tellings, "nothing to record"
        now = self._now()
        if not self.is_behind and await self._is_in_database(tellings, also, now):
            return True
        await self._keep(_entry(tellings, now))
        return False

    async def _is_in_database(self, tellings: Sequence[Telling], also: Also | None, now: float) -> bool:
        """Whether it got there in time. A try that is late goes on unattended until the database answers or its own limits end it: what
        it may still commit is known by its ids, whereas breaking it off would take as long as it does."""
        attempt = asyncio.create_task(self._try(tellings, also, now))
        self._attempts.add(attempt)
        attempt.add_done_callback(self._forget)
        done, _ = await asyncio.wait({attempt}, timeout=self._settings.record_s)
        if not done:
            _log.warning("answers are recorded on disk: the database took longer than %g s", self._settings.record_s)
            return False
        try:
            attempt.result()
        except AwayError as error:
            _log.warning("answers are recorded on disk: %s", error)
            return False
        return True

    async def _try(self, tellings: Sequence[Telling], also: Also | None, now: float) -> None:
        async def write(on: AsyncConnection) -> None:
            await self._tell(on, tellings, now)  # for the first time: its ids are in no log yet
            if also is not None:
                await also(on)

        await self._group.write(write)

    def _forget(self, attempt: asyncio.Task[None]) -> None:
        self._attempts.discard(attempt)
        if not attempt.cancelled():
            attempt.exception()  # it was told of, or nobody waits for it any more

    async def waiting(self, stream: str, owner: Owner) -> list[Waiting]:
        """What waits on this server's disk to be told to the owner's stream, in order. What was told since its segment was begun to be
        taken is still among it; whoever wants to know what counts looks here first and into the database then."""
        if not self.is_behind:
            return []
        entries = await asyncio.to_thread(self._spooled.find, self._spool.segments, stream)
        found: list[Waiting] = []
        for entry in entries:
            with contextlib.suppress(msgspec.DecodeError):  # it will be set aside
                said = _DECODER.decode(entry)
                mine = (one for one in _tellings(said) if one.stream == stream and one.owner == owner)
                found += (Waiting(said.time, one) for one in mine)
        return found

    async def will_be_told(self, on: AsyncConnection, waiting: Waiting) -> bool:
        """Whether what waits to be told as the first of its stream will be: not, when it was told and erased meanwhile, or what it
        belongs to was."""
        one = waiting.telling
        if await self._is_erased(on, [one], waiting.time) or await self._log.is_erased(on, one.stream):
            return False
        return not one.part_of or await self._log.version(on, one.part_of, one.owner) is not None

    async def drain(self) -> int:
        """Bring what waits on disk to the database and return how many entries were taken. Raises AwayError."""
        async with self._adding:
            self._spool.close()
        count = 0
        with self._spool.taking() as segments:
            for segment in segments:
                for entry in await asyncio.to_thread(self._spool.entries, segment):
                    await self._take(entry)
                    count += 1
                await asyncio.to_thread(self._spool.taken, segment)
        return count

    async def run(self) -> None:
        """Drain until cancelled."""
        while True:
            try:
                if self.is_behind and (count := await self.drain()):
                    _log.info("%d entries came from disk to the database", count)
            except AwayError:
                pass  # said where the first answer went to disk
            except Exception as error:
                # Whatever it is, what nobody brings to the database is worse than one more try.
                _log.error("what waits on disk cannot be brought to the database", exc_info=error)
            await asyncio.sleep(self._settings.drain_s)

    def close(self) -> None:
        self._spool.close()

    async def _keep(self, entry: bytes) -> None:
        """Write it with all others that wait at this moment: one sync for all of them."""
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, kept))
        async with self._adding:
            together, self._waiting = self._waiting, []
            if together:
                await self._add(together)
        await kept

    async def _add(self, together: list[tuple[bytes, asyncio.Future[None]]]) -> None:
        entries = [entry for entry, _ in together]
        adding = asyncio.get_running_loop().run_in_executor(None, self._spool.add, entries)
        try:
            await asyncio.shield(adding)
        except asyncio.CancelledError:
            # The thread goes on whoever stopped waiting; the others still want to know, and the lock is held until it is through.
            await asyncio.wait([adding])
            raise
        except SpoolError:
            pass
        finally:
            for _, kept in together:
                if not kept.done():
                    _told_of(adding, kept)

    async def _take(self, entry: bytes) -> None:
        """Into the database, unless it is there. What can never be recorded is not to hold up the rest."""
        try:
            said = _DECODER.decode(entry)
            tellings = _tellings(said)
            try:
                await self._once(tellings, said.time)
            except IntegrityError:
                # A try that was broken off was committed after all, between our look and our telling: now it is seen.
                await self._once(tellings, said.time)
        except (ConflictError, NoStreamError) as error:
            _log.warning("an entry from disk is dropped: %s", error)
        except (SQLAlchemyError, msgspec.DecodeError) as error:
            _log.error("an entry from disk cannot be recorded and is set aside", exc_info=error)
            await asyncio.to_thread(self._spool.set_aside, entry)

    async def _once(self, tellings: Sequence[Telling], time: float) -> None:
        async with self._database.writing() as on:
            if not await self._is_told(on, tellings) and not await self._is_erased(on, tellings, time):
                await self._tell(on, tellings, time)

    async def _is_told(self, on: AsyncConnection, tellings: Sequence[Telling]) -> bool:
        """All of it was told in one transaction, or none, and its first event is never deleted without its stream."""
        return await self._log.is_told(on, tellings[0].happened[0].id)

    async def _is_erased(self, on: AsyncConnection, tellings: Sequence[Telling], time: float) -> bool:
        owner = tellings[0].owner
        whose = or_(erasures.c.subject == "", erasures.c.subject == owner.subject)
        query = select(erasures.c.at).where(erasures.c.tenant == owner.tenant, whose, erasures.c.at >= time)
        return (await on.execute(query)).first() is not None

    async def _tell(self, on: AsyncConnection, tellings: Sequence[Telling], now: float) -> None:
        # Conversations first, whatever the order given: see log.py on waiting in a circle.
        for one in sorted(tellings, key=lambda one: not one.stream.startswith(f"{CONVERSATION}_")):
            await self._log.append(on, one.stream, one.owner, one.expected, one.happened, now, one.part_of)


def _told_of(adding: asyncio.Future[None], kept: asyncio.Future[None]) -> None:
    error = adding.exception()
    if error is None:
        kept.set_result(None)
    else:
        kept.set_exception(error)


def _entry(tellings: Sequence[Telling], now: float) -> bytes:
    written = [
        _Telling(
            one.stream, one.owner.tenant, one.owner.subject, one.expected, one.part_of,
            [_Happened(event.id, event.type, dict(event.data)) for event in one.happened],
        )
        for one in tellings
    ]  # fmt: skip
    return msgspec.json.encode(_Entry(now, written))


def _tellings(entry: _Entry) -> list[Telling]:
    return [
        Telling(
            one.stream, Owner(one.tenant, one.subject), one.expected,
            tuple(Told(event.id, event.type, event.data) for event in one.happened), one.part_of,
        )
        for one in entry.tellings
    ]  # fmt: skip
