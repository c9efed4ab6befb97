"""Responses that nobody waits for: taken from the queue, said to the database, gone on with by another process when this one dies.

A response is asked of the gateways under its own id as Idempotency-Key, with a seed made of it: who goes on after a crash joins the call
that still runs, gets the answer that was kept, or has it made again, and passes over what its predecessor has stored. Should it come out
differently, the response fails rather than being put together of two answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.database import AwayError
from cordee.services.base.door import Asked, DoorError, RefusedError, Streamed
from cordee.services.base.identifiers import new
from cordee.services.chats.log import NoStreamError, Owner
from cordee.services.chats.responses import runs
from cordee.services.chats.responses.deltas import DONE, BrokenError, behind, heard
from cordee.services.chats.responses.naming import names
from cordee.services.chats.responses.projection import find
from cordee.services.chats.responses.runs import Run
from cordee.services.chats.responses.said import Skipping, folded
from cordee.services.chats.responses.speaking import Event, Speaking
from cordee.services.chats.responses.translate_in import CHAT_PATH
from cordee.services.chats.responses.translate_out import Ending, Status, ending_of, failed, refusal_of
from cordee.services.chats.responses.work import ended as ended_tellings
from cordee.services.chats.service import Service

LATER = frozenset({409, 429, 500, 502, 503, 504})  # what a gateway says that may say otherwise soon
QUEUED_EVENTS = 2  # response.created and response.queued: stored when it is queued
RETRY_S = 2.0  # where it does not say when
ROWS = 10_000  # of events read at once: more than an answer has
HEADERS = {"Content-Type": "application/json", "X-Cordee-Resumable": "1"}
PRIORITY = "standard"
_log = logging.getLogger(__name__)


async def tell_news(
    service: Service, on: AsyncConnection, owner: Owner, response: Mapping[str, Any], now: float
) -> None:
    """That a response in the background has ended, to whoever listens: `cordee.chats.response.completed` and so on."""
    status, response_id = str(response["status"]), str(response["id"])
    news = {"id": response_id, "subject": owner.subject, "status": status}
    await service.outbox.append(on, now, f"response.{status}", response_id, owner.tenant, news)


class LostError(Exception):
    """The run is somebody else's now, or was erased."""


class Background:
    """The runs of this process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._settings = service.settings.responses
        self._holder = new("holder")
        self._running: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """There is something in the queue."""
        self._wake.set()

    async def run(self) -> None:
        """Claim and run until cancelled."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._claim()
                except AwayError as error:
                    _log.warning("responses in the background wait: %s", error)
                except Exception as error:
                    # Whatever it is, work that nobody takes up is worse than one more try.
                    _log.error("responses in the background wait: claiming them failed", exc_info=error)
                try:
                    async with asyncio.timeout(self._settings.poll_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _claim(self) -> None:
        room = self._settings.background_max - len(self._running)
        if room <= 0:
            return
        now = self._service.now()
        async with self._service.database.writing() as on:
            claimed = await runs.claim(on, self._holder, now, now + self._settings.lease_s, room)
        for run in claimed:
            task = asyncio.create_task(self._guarded(run))
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()

    async def _guarded(self, run: Run) -> None:
        try:
            await _Running(self._service, self._holder, run).run()
        except LostError:
            _log.info("%s is made by another process, or was deleted", run.id)
        except asyncio.CancelledError:
            await self._give_back(run)
            raise
        except Exception as error:
            # Its lease ends, and whoever takes it up then goes on behind what is stored.
            _log.error("%s stopped for now", run.id, exc_info=error)

    async def _give_back(self, run: Run) -> None:
        """Another process need not wait for the lease to end."""
        try:
            async with asyncio.timeout(self._settings.flush_s), self._service.database.writing() as on:
                await runs.let_go(on, run, self._holder, 0.0)
        except (AwayError, TimeoutError):
            pass


class _Running:
    """One run."""

    def __init__(self, service: Service, holder: str, run: Run) -> None:
        self._service = service
        self._settings = service.settings.responses
        self._holder = holder
        self._run = run
        self._speaking = Speaking(run.fields, names(run.id, run.behind))
        self._unstored: list[Event] = []
        self._skipping = Skipping([])
        self._storing = asyncio.Lock()

    async def run(self) -> None:
        await self._prepare()
        flushing = asyncio.create_task(self._flushing())
        asking = asyncio.create_task(self._asked())
        try:
            await asyncio.wait((flushing, asking), return_when=asyncio.FIRST_COMPLETED)
            if flushing.done():
                flushing.result()  # it ends only by raising
            ending = asking.result()
            async with self._storing:
                flushing.cancel()  # between two flushes: one that is broken off may have been committed, and would be stored again
        finally:
            flushing.cancel()
            asking.cancel()
            await asyncio.gather(flushing, asking, return_exceptions=True)
        await self._end(ending)

    async def _prepare(self) -> None:
        """Where the one before has stopped."""
        async with self._service.database.reading() as on:
            output, number = folded(await runs.stored_events(on, self._run.id, -1, ROWS))
        self._speaking.resume(output, number)
        self._skipping = Skipping(output)
        if number <= QUEUED_EVENTS:
            self._unstored.append(self._speaking.started())

    async def _asked(self) -> Ending:
        """The answer, asked for until there is one or the time is over."""
        over = self._run.queued_at + self._settings.background_s
        while True:
            wait_s = RETRY_S
            try:
                ending = await self._heard()
                if ending is not None:
                    return ending
            except RefusedError as refused:
                if refused.status not in LATER:
                    return failed(refusal_of(refused.body)[0], refused.status)
                wait_s = refused.retry_after_s or RETRY_S
            except DoorError:
                pass
            except BrokenError as error:
                _log.warning("%s broke off and is asked for again: %s", self._run.id, error)
            if self._service.now() + wait_s > over:
                return failed(f"no gateway had an answer within {self._settings.background_s:g} s")
            await asyncio.sleep(wait_s)
            self._skipping = Skipping(self._speaking.output)

    async def _heard(self) -> Ending | None:
        """One try. None: it broke off."""
        asked = Asked(
            "POST", CHAT_PATH, self._run.chat.encode(), key=self._run.id, priority=PRIORITY,
            timeout_s=self._settings.background_s, headers=HEADERS,
        )  # fmt: skip
        async with self._service.ground.door.stream(self._run.caller, asked) as said:
            async for one in said:
                if one.data == DONE:
                    break
                if not self._take(one):
                    return failed("the answer had to be made again after a crash, and came out differently")
        return ending_of(self._speaking.finish) if self._speaking.finish is not None else None

    def _take(self, one: Streamed) -> bool:
        """False: what comes again is another answer."""
        delta, skipping = heard(one.data), self._skipping
        if not skipping.is_over:
            skipped, delta, skipping.left = behind(delta, skipping.left)
            skipping.note(skipped)
            if not skipping.is_same or (delta.finish is not None and not skipping.is_over):
                return False
        self._unstored += self._speaking.hear(delta)
        return True

    async def _flushing(self) -> None:
        """Store what was said, now and then. Raises LostError."""
        while True:
            await asyncio.sleep(self._settings.flush_s)
            try:
                async with self._storing:
                    await self._flush()
            except AwayError as error:
                _log.warning("events of %s wait: %s", self._run.id, error)

    async def _flush(self) -> None:
        now, events = self._service.now(), tuple(self._unstored)
        async with self._service.database.writing() as on:
            if not await runs.keep(on, self._run, self._holder, now + self._settings.lease_s):
                raise LostError
            if events:
                await runs.store_events(on, self._run.id, events, now)
        del self._unstored[: len(events)]

    async def _end(self, ending: Ending) -> None:
        """The last events, the end of the response, and the news of it: together."""
        speaking, service, run = self._speaking, self._service, self._run
        if ending.status is not Status.FAILED:
            self._unstored += speaking.close("completed" if ending.status is Status.COMPLETED else "incomplete")
        response = speaking.response(ending, service.now())
        self._unstored.append(speaking.last(response))
        while True:
            try:
                await self._tell(response)
                return
            except AwayError as error:
                _log.warning("the end of %s waits: %s", run.id, error)
                await asyncio.sleep(RETRY_S)

    async def _tell(self, response: dict[str, Any]) -> None:
        service, run, now = self._service, self._run, self._service.now()
        async with service.database.writing() as on:
            if not await runs.done(on, run, self._holder):
                raise LostError
            stored = await find(on, run.owner, run.id)
            if stored is None:
                raise LostError
            await runs.store_events(on, run.id, self._unstored, now)
            for telling in ended_tellings(run.owner, response, stored.input):
                try:
                    await service.log.append(on, telling.stream, telling.owner, None, telling.happened, now)
                except NoStreamError:
                    _log.info("the conversation of %s was deleted meanwhile", run.id)
            await tell_news(service, on, run.owner, response, now)
