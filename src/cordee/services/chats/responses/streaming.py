"""A response that its client hears as it is said.

Nothing is awaited between a piece that comes from a gateway and the events that leave. The beginning is on disk at once, and in the
database if the answer lasts; only the last event waits until the end is recorded. How much was handed to the connection is noted after
every piece (sent.py): when the client goes, or this process is killed, what is stored is exactly that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cordee.services.base.door import DoorError, RefusedError, Streamed
from cordee.services.chats.log import ConflictError, NoStreamError
from cordee.services.chats.recorder import Telling
from cordee.services.chats.responses.asking import KEPT, Asking, away, problem_of
from cordee.services.chats.responses.deltas import DONE, BrokenError, Extent, heard
from cordee.services.chats.responses.naming import names
from cordee.services.chats.responses.said import cut
from cordee.services.chats.responses.sent import Sent, Slot
from cordee.services.chats.responses.speaking import Event, Speaking
from cordee.services.chats.responses.translate_out import CANCELLED, Ending, Status, begun, ended, ending_of, failed
from cordee.services.chats.responses.work import Work, at_once, written
from cordee.services.chats.responses.work import begun as begun_telling
from cordee.services.chats.responses.work import ended as ended_tellings
from cordee.services.chats.service import Service
from cordee.services.chats.spool import SpoolError

HEADERS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", "x-accel-buffering": "no"}
_log = logging.getLogger(__name__)


async def streaming(service: Service, sent: Sent, work: Work, priority: str) -> Response:
    """The answer that streams it; a gateway's refusal is a Problem, as long as nothing was sent. Raises Problem and Invalid."""
    headers = KEPT if work.asked.is_stored else {}
    total_s = service.settings.responses.total_s
    asking = Asking(work, stream=True, priority=priority, timeout_s=total_s, headers=headers)
    while True:
        stack = AsyncExitStack()
        try:
            said = await stack.enter_async_context(service.ground.door.stream(work.caller, asking.asked))
        except RefusedError as refused:
            if not asking.is_shortened(refused):
                raise problem_of(refused) from refused
        except DoorError as error:
            raise away() from error
        else:
            return _Streaming(service, sent, work, said, stack)


class _Streaming(Response):
    """The ASGI answer."""

    def __init__(
        self, service: Service, sent: Sent, work: Work, said: AsyncIterator[Streamed], stack: AsyncExitStack
    ) -> None:
        super().__init__(headers=HEADERS)
        del self.headers["content-length"]  # nobody knows it
        self._service = service
        self._work = work
        self._said = said
        self._stack = stack
        self._sent = sent
        self._speaking = Speaking(work.fields, names(work.id, len(work.given)))
        self._slot: Slot | None = None
        self._handed = Extent()
        self._beginning: asyncio.Task[None] | None = None
        self._is_begun = False  # in the database, or on its way there
        self._end: asyncio.Task[dict[str, Any]] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._work.asked.is_stored:
            first = begun_telling(self._work, begun(self._work.fields, Status.IN_PROGRESS))
            self._slot = self._sent.take(self._work.id, written(first))
            after_s = self._service.settings.responses.begin_s if self._slot is not None else 0.0
            self._beginning = asyncio.create_task(self._begin(first, after_s))
        telling = asyncio.create_task(self._tell(send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait((telling, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            # The client has gone, or this process is being ended: either way nothing more is sent.
            if not telling.done():
                telling.cancel()
            gone.cancel()
            await asyncio.gather(telling, gone, return_exceptions=True)
            await self._leave()
            if telling.cancelled() or telling.exception() is not None:
                await self._settle(CANCELLED)
            if self._slot is not None:
                self._slot.free()
        if not telling.cancelled():
            telling.result()

    async def _tell(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await self._hand(send, self._speaking.begin(), "")
        ending = await self._pieces(send)
        await self._leave()
        if ending.status is not Status.FAILED:
            await self._hand(send, self._speaking.close(_closed(ending)), None)
        response = await self._settle(ending)
        await send(_body([self._speaking.last(response)], more=False))

    async def _pieces(self, send: Send) -> Ending:
        """Everything that comes, handed on."""
        speaking = self._speaking
        try:
            async for one in self._said:
                if one.data == DONE:
                    break
                events = speaking.hear(heard(one.data))
                if events:
                    await self._hand(send, events, one.id)
        except BrokenError as error:
            return failed(str(error), error.status)
        except DoorError:
            return failed("the answer broke off, and no gateway could go on with it")
        return ending_of(speaking.finish)

    async def _hand(self, send: Send, events: Sequence[Event], at: str | None) -> None:
        """`at`: the gateways' name of the place, whose first part is that of the answer; None: where it was."""
        if not events:
            return
        await send(_body(events, more=True))
        self._handed = self._speaking.extent
        if self._slot is not None and at is not None:
            self._slot.note(at.partition(".")[0], self._handed)

    async def _settle(self, ending: Ending) -> dict[str, Any]:
        """The response as it stays, recorded: once, whoever stops waiting for it."""
        if self._end is None:
            self._end = asyncio.create_task(self._recorded(ending))
        return await asyncio.shield(self._end)

    async def _recorded(self, ending: Ending) -> dict[str, Any]:
        work, speaking = self._work, self._speaking
        output = cut(speaking.output, self._handed)
        response = ended(work.fields, ending, output, speaking.usage, self._service.now())
        if self._beginning is None:
            return response
        if self._is_begun:
            await self._beginning
            await self._record(ended_tellings(work.owner, response, work.given))
        else:
            self._beginning.cancel()
            await self._record(at_once(work, begun(work.fields, Status.IN_PROGRESS), response))
        return response

    async def _begin(self, first: Telling, after_s: float) -> None:
        """Most answers are over sooner, and are recorded once."""
        await asyncio.sleep(after_s)
        self._is_begun = True
        await self._record([first])

    async def _record(self, tellings: Sequence[Telling]) -> None:
        try:
            await self._service.recorder.record(tellings)
        except (ConflictError, NoStreamError) as error:
            _log.warning("%s is not stored: it or its conversation was deleted meanwhile: %s", self._work.id, error)
        except SpoolError as error:
            _log.error("%s is answered and not stored: %s", self._work.id, error)

    async def _leave(self) -> None:
        with contextlib.suppress(DoorError):
            await self._stack.aclose()


def _closed(ending: Ending) -> str:
    return "incomplete" if ending.status is Status.INCOMPLETE else "completed"


def _body(events: Sequence[Event], *, more: bool) -> dict[str, Any]:
    return {"type": "http.response.body", "body": b"".join(event.framed for event in events), "more_body": more}


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
