"""Whoever follows a response in the background: the events that are stored, then those that come, on whichever process is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
from starlette.responses import StreamingResponse

from cordee.services.base.database import AwayError
from cordee.services.base.errors import Problem
from cordee.services.chats.log import Owner
from cordee.services.chats.responses import runs
from cordee.services.chats.responses.projection import find
from cordee.services.chats.responses.streaming import HEADERS
from cordee.services.chats.service import Service

ROWS = 64  # of events at one look
LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})
RETRY_AFTER_S = 5


class _Typed(msgspec.Struct):
    type: str
    sequence_number: int


_read = msgspec.json.Decoder(_Typed).decode


class Following:
    """The followers of one process."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._count = 0

    async def follow(self, owner: Owner, response_id: str, after: int) -> StreamingResponse:
        """The events behind number `after`, up to the last one. Raises Problem."""
        settings = self._service.settings.responses
        if self._count >= settings.followers_max:
            said = f"{self._count} streams are followed here, the most there can be; try again."
            raise Problem(503, said, None, "too_many_followers", RETRY_AFTER_S)
        first = await self._next(owner, response_id, after)
        if first is None:
            said = "the events of this response are not kept any more; retrieve it without 'stream'"
            raise Problem(400, f"stream: {said}.", "stream", "events_gone")
        return StreamingResponse(self._events(owner, response_id, after, first), headers=HEADERS)

    async def _events(
        self, owner: Owner, response_id: str, after: int, lines: list[bytes] | None
    ) -> AsyncIterator[bytes]:
        self._count += 1
        try:
            while lines is not None:
                for line in lines:
                    event = _read(line)
                    after = event.sequence_number
                    yield b"event: %s\ndata: %s\n\n" % (event.type.encode(), line)
                    if event.type in LAST:
                        return
                if not lines:
                    await asyncio.sleep(self._service.settings.responses.follow_s)
                try:
                    lines = await self._next(owner, response_id, after)
                except AwayError:
                    lines = []  # what is stored is not lost; looked for again
        finally:
            self._count -= 1

    async def _next(self, owner: Owner, response_id: str, after: int) -> list[bytes] | None:
        """None: nothing is there and nothing will come."""
        async with self._service.database.reading() as on:
            if await find(on, owner, response_id) is None:
                return None
            running = await runs.is_running(on, owner, response_id)
            lines = await runs.stored_events(on, response_id, after, ROWS)
        return lines if lines or running is not None else None
