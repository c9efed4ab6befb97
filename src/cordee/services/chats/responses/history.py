"""What a model is to read before a request's own input: the items of a conversation, or of the responses before."""

from __future__ import annotations

from sqlalchemy import select

from cordee.services.base.errors import Problem
from cordee.services.chats.log import Owner
from cordee.services.chats.responses.items import Item
from cordee.services.chats.responses.projection import chain
from cordee.services.chats.responses.request import Create
from cordee.services.chats.responses.translate_in import TURNS_MAX
from cordee.services.chats.service import Service
from cordee.services.chats.tables import conversations, items

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
    async with service.database.reading() as on:
        found = await chain(on, owner, response_id, length_max)
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
    """The last items, as many as a model may be given."""
    theirs = conversations.c.tenant == owner.tenant, conversations.c.subject == owner.subject
    async with service.database.reading() as on:
        known = await on.execute(select(conversations.c.id).where(conversations.c.id == conversation, *theirs))
        if known.first() is None:
            raise Problem(404, f"There is no conversation {conversation[:64]}.", "conversation", "not_found")
        query = (
            select(items.c.body)
            .where(items.c.conversation == conversation, items.c.tenant == owner.tenant)
            .order_by(items.c.number.desc())
            .limit(TURNS_MAX)
        )
        rows = (await on.execute(query)).scalars().all()
    return list(reversed(rows))
