"""What a model is to read before a request's own input: the items of a conversation, or of the responses before."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.errors import Problem
from cordee.services.chats.log import Owner
from cordee.services.chats.responses.finding import chain
from cordee.services.chats.responses.items import Item
from cordee.services.chats.responses.request import Create
from cordee.services.chats.responses.translate_in import TURNS_MAX
from cordee.services.chats.service import Service
from cordee.services.chats.tables import conversations, events, items

_OVER = ("completed", "incomplete", "cancelled", "failed")


async def before(service: Service, owner: Owner, asked: Create) -> list[Item]:
    """In order, the oldest first. Raises Problem for what is not the owner's, naming the parameter."""
    if asked.previous_response_id is not None:
        return await _responses(service, owner, asked.previous_response_id)
    if (conversation := asked.conversation_id) is not None:
        return await _conversation(service, owner, conversation)
    return []


async def _responses(service: Service, owner: Owner, response_id: str) -> list[Item]:
    param, length_max = "previous_response_id", service.settings.responses.chain_max
    found = await chain(service, owner, response_id, length_max)
    if not found or found[-1].id != response_id:
        raise Problem(
            404, f"Previous response with id '{response_id[:64]}' not found.", param, "previous_response_not_found"
        )
    if found[0].body["previous_response_id"] is not None:
        if len(found) > length_max:
            said = f"there are more than {length_max} responses before this one; begin anew with what matters of them"
            raise Problem(400, f"{param}: {said}.", param, "chain_too_long")
        lost = found[0].body["previous_response_id"]
        said = f"{lost}, which comes before it, was deleted or never stored"
        raise Problem(404, f"{param}: {said}.", param, "previous_response_not_found")
    if found[-1].body["status"] not in _OVER:
        raise Problem(
            400, f"{param}: this response is still being made; wait for its end.", param, "response_in_progress"
        )
    return [item for one in found for item in (*one.input, *one.body["output"])]


async def _conversation(service: Service, owner: Owner, conversation: str) -> list[Item]:
    """The last items, as many as a model may be given, and behind them those that wait on disk to be told."""
    waiting = (await service.recorder.waiting(conversation, owner))[-TURNS_MAX:]
    theirs = conversations.c.tenant == owner.tenant, conversations.c.subject == owner.subject
    async with service.database.reading() as on:
        known = await on.execute(select(conversations.c.id).where(conversations.c.id == conversation, *theirs))
        if known.first() is None:
            raise Problem(404, f"There is no conversation {conversation[:64]}.", "conversation", "not_found")
        # Asked first: what is told between this and the next question is in both answers, and counts once.
        told = await _told(on, [one.telling.happened[0].id for one in waiting])
        query = (
            select(items.c.body)
            .where(items.c.conversation == conversation, items.c.tenant == owner.tenant)
            .order_by(items.c.number.desc())
            .limit(TURNS_MAX)
        )
        rows = (await on.execute(query)).scalars().all()
    known_ids = {item["id"] for item in rows}
    added = (one.telling.happened for one in waiting if one.telling.happened[0].id not in told)
    late = (happened.data["item"] for telling in added for happened in telling)
    return [*reversed(rows), *(item for item in late if item["id"] not in known_ids)][-TURNS_MAX:]


async def _told(on: AsyncConnection, ids: list[str]) -> set[str]:
    """Those of these events that the log has."""
    return set((await on.execute(select(events.c.id).where(events.c.id.in_(ids)))).scalars()) if ids else set()
