"""How a client's response is found: in the database, and, while it is behind, in what waits for it on this server's disk.

What an owner was answered is there. On disk is looked first and in the database then, so that what is taken from here to there meanwhile is
seen in one of the two. What waits counts from its beginning on: an end alone is the end of what the database holds. With the database away
a response is shown that waits whole and belongs to no conversation: nobody can have deleted it, because what waits is not deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.base.database import AwayError
from cordee.services.chats.log import Owner
from cordee.services.chats.recorder import Waiting
from cordee.services.chats.responses import projection, runs
from cordee.services.chats.responses.projection import Stored
from cordee.services.chats.responses.telling import BEGUN, ENDED
from cordee.services.chats.responses.translate_out import Status
from cordee.services.chats.service import Service


@record
class Found:
    """`is_running`: somebody has begun with it, in the background."""

    stored: Stored
    is_running: bool = False


async def find(service: Service, owner: Owner, response_id: str) -> Found | None:
    """The owner's; None for everybody else's. Raises AwayError."""
    waiting = await service.recorder.waiting(response_id, owner)
    try:
        async with service.database.reading() as on:
            stored = await projection.find(on, owner, response_id)
            if stored is None:
                made = await _counting(service, on, waiting)
                return None if made is None else Found(made)
            is_running = await runs.is_running(on, owner, response_id) if stored.is_background else False
            return Found(_ended(stored, waiting), bool(is_running))
    except AwayError:
        if (alone := _alone(waiting)) is None:
            raise
        return Found(alone)


async def chain(service: Service, owner: Owner, response_id: str, length_max: int) -> list[Stored]:
    """The response and those before it, the oldest first; at most `length_max` and one. Ends where one is missing. Raises AwayError."""
    waiting: list[list[Waiting]] = []  # of the newest, which wait whole; the newest first
    name: str | None = response_id
    while name is not None and len(waiting) <= length_max:
        waits = await service.recorder.waiting(name, owner)
        made = _made(waits)
        if made is None:
            break
        waiting.append(waits)
        name = made.body["previous_response_id"]
    try:
        async with service.database.reading() as on:
            newest: list[Stored] = []
            for waits in waiting:
                told = await projection.find(on, owner, waits[0].telling.stream)
                made = await _counting(service, on, waits) if told is None else _ended(told, waits)
                if made is None:
                    return newest[::-1]
                newest.append(made)
            room = length_max - len(newest)
            before = await projection.chain(on, owner, name, room) if name is not None and room >= 0 else []
    except AwayError:
        alone = [made for waits in waiting if (made := _alone(waits)) is not None]
        if name is not None or len(alone) < len(waiting):
            raise
        return alone[::-1]
    settled = [_ended(one, await service.recorder.waiting(one.id, owner)) for one in before]
    return [*settled, *newest[::-1]]


async def is_waiting(service: Service, owner: Owner, response_id: str) -> bool:
    """Whether its beginning waits, or did until just now."""
    return _made(await service.recorder.waiting(response_id, owner)) is not None


async def _counting(service: Service, on: AsyncConnection, waiting: Sequence[Waiting]) -> Stored | None:
    """What waits, if it will be told."""
    made = _made(waiting)
    return made if made is not None and await service.recorder.will_be_told(on, waiting[0]) else None


def _alone(waiting: Sequence[Waiting]) -> Stored | None:
    """What can be shown without asking the database whether it counts."""
    return None if any(one.telling.part_of for one in waiting) else _made(waiting)


def _made(waiting: Sequence[Waiting]) -> Stored | None:
    """None where the beginning is not among it."""
    happened = waiting[0].telling.happened if waiting else ()
    if not happened or happened[0].type != BEGUN:
        return None
    data = happened[0].data
    response = data["response"]
    return _ended(Stored(response["id"], response["background"], data["input"], response), waiting)


def _ended(stored: Stored, waiting: Sequence[Waiting]) -> Stored:
    """With the end that waits, if it has none yet."""
    if stored.body["status"] != Status.IN_PROGRESS.value:
        return stored
    for one in waiting:
        for told in one.telling.happened:
            if told.type == ENDED:
                return replace(stored, body=told.data["response"])
    return stored
