"""A response for the background is put into the queue, and taken out of it by who does not want it any more."""

from __future__ import annotations

import contextlib
from typing import Any

from cordee.services.base.errors import Problem, not_found
from cordee.services.chats.log import NoStreamError, Owner
from cordee.services.chats.responses import runs
from cordee.services.chats.responses.background import ROWS, tell_news
from cordee.services.chats.responses.finding import is_waiting
from cordee.services.chats.responses.naming import names, seed_of
from cordee.services.chats.responses.projection import find
from cordee.services.chats.responses.runs import Run
from cordee.services.chats.responses.said import folded
from cordee.services.chats.responses.speaking import Speaking
from cordee.services.chats.responses.translate_in import chat
from cordee.services.chats.responses.translate_out import CANCELLED, Status, begun
from cordee.services.chats.responses.work import Work
from cordee.services.chats.responses.work import begun as begun_telling
from cordee.services.chats.responses.work import ended as ended_tellings
from cordee.services.chats.service import Service

RETRY_AFTER_S = 10  # a queue that is full


async def queue(service: Service, work: Work) -> dict[str, Any]:
    """The response object. It is in the database when this returns. Raises Problem, Invalid and AwayError."""
    body = chat(work.asked, work.items, stream=True, seed=seed_of(work.id)).decode()
    now, behind = service.now(), len(work.given)
    response = begun(work.fields, Status.QUEUED)
    first = begun_telling(work, response)
    run = Run(work.id, work.owner, work.caller, work.fields, body, behind, now)
    async with service.database.writing() as on:
        waiting, most = await runs.count(on, work.owner.tenant), service.settings.responses.queued_max
        if waiting >= most:
            said = (
                f"{waiting} responses wait or run in the background, and {most} may; come again when some have ended."
            )
            raise Problem(429, said, "background", "queue_full", RETRY_AFTER_S)
        await service.log.append(on, first.stream, first.owner, first.expected, first.happened, now, first.part_of)
        await runs.queue(on, run)
        await runs.store_events(on, work.id, Speaking(work.fields, names(work.id)).begin(is_queued=True), now)
    return response


async def cancel(service: Service, owner: Owner, response_id: str) -> dict[str, Any]:
    """The response object as it stays. Cancelling what has ended changes nothing. Raises Problem."""
    now = service.now()
    if await is_waiting(service, owner, response_id):
        raise _not_in_background()
    async with service.database.writing() as on:
        stored = await find(on, owner, response_id)
        if stored is None:
            raise not_found("response", response_id)
        if not stored.is_background:
            raise _not_in_background()
        if not await runs.take_away(on, owner, response_id):
            return dict(stored.body)
        output, number = folded(await runs.stored_events(on, response_id, -1, ROWS))
        fields = {name: stored.body[name] for name in stored.body if name not in ("status", "output")}
        speaking = Speaking(fields, names(response_id, len(stored.input)))
        speaking.resume(output, number)
        response = speaking.response(CANCELLED, now)
        await runs.store_events(on, response_id, [speaking.last(response)], now)
        for telling in ended_tellings(owner, response, stored.input):
            with contextlib.suppress(NoStreamError):  # the conversation was deleted meanwhile
                await service.log.append(on, telling.stream, owner, None, telling.happened, now)
        await tell_news(service, on, owner, response, now)
    return response


def _not_in_background() -> Problem:
    said = "Only responses made with background=true can be cancelled; leave the connection to end this one."
    return Problem(400, said, "response_id", "not_in_background")
