"""What can be done to a conversation: made, changed, filled, emptied, deleted; each in one transaction with what is told of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.errors import Problem, not_found
from cordee.services.base.identifiers import new
from cordee.services.base.paging import Page
from cordee.services.chats import store
from cordee.services.chats.log import NEW, NoStreamError, Owner, Told
from cordee.services.chats.responses.items import taken
from cordee.services.chats.service import Service
from cordee.services.chats.store import Conversation, Item
from cordee.services.chats.telling import CONVERSATION, archived, created, item_added, item_deleted, titled, updated
from cordee.wire.errors import Invalid

ITEMS_PARAM = "items"


async def begin(
    service: Service, owner: Owner, metadata: Mapping[str, str], given: Sequence[Mapping[str, Any]]
) -> Conversation:
    """A new conversation with these items. Raises Invalid."""
    name, now = new(CONVERSATION), service.now()
    happened = [created(metadata), *_added(given)]
    async with service.database.writing() as on:
        await service.log.append(on, name, owner, NEW, happened, now)
        await service.outbox.append(on, now, "conversation.created", name, owner.tenant, {"user": owner.subject})
        return await _conversation(on, owner, name)


async def find(service: Service, owner: Owner, name: str) -> Conversation:
    """Raises Problem (404)."""
    async with service.database.reading() as on:
        return await _conversation(on, owner, name)


async def change(
    service: Service,
    owner: Owner,
    name: str,
    *,
    metadata: Mapping[str, str] | None = None,
    title: str | None = None,
    is_archived: bool | None = None,
) -> Conversation:
    """Change what is not None. Raises Problem (404)."""
    happened: list[Told] = []
    if metadata is not None:
        happened.append(updated(metadata))
    if title is not None:
        happened.append(titled(title))
    if is_archived is not None:
        happened.append(archived(is_archived))
    async with service.database.writing() as on:
        if happened:
            await _append(service, on, owner, name, happened)
        return await _conversation(on, owner, name)


async def delete(service: Service, owner: Owner, name: str) -> None:
    """With all its items, and the responses that belong to it. Raises Problem (404)."""
    now = service.now()
    async with service.database.writing() as on:
        if not await service.log.erase(on, name, owner, now):
            raise not_found("conversation", name)
        await service.outbox.append(on, now, "conversation.deleted", name, owner.tenant, {"user": owner.subject})


async def add(service: Service, owner: Owner, name: str, given: Sequence[Mapping[str, Any]]) -> list[Item]:
    """Items behind those that are there. Raises Invalid, Problem (404, 409)."""
    happened = _added(given)
    async with service.database.writing() as on:
        last = await _append(service, on, owner, name, happened)
        if last > service.settings.items_max:
            raise Problem(
                409, f"A conversation takes {service.settings.items_max} items and changes, and this one would have {last}; "
                f"begin another one.", code="conversation_full",
            )  # fmt: skip
    first = last - len(happened) + 1
    return [Item(number, one.data["item"]) for number, one in enumerate(happened, first)]


async def item(service: Service, owner: Owner, name: str, item_id: str) -> Item:
    """Raises Problem (404)."""
    async with service.database.reading() as on:
        found = await store.item(on, owner, name, item_id)
    if found is None:
        raise not_found("item", f"{item_id} in the conversation {name}")
    return found


async def items(service: Service, owner: Owner, name: str, page: Page) -> list[Item]:
    """The page and one more, if there is one. Raises Problem (404; 400 for an `after` that is not in the conversation)."""
    async with service.database.reading() as on:
        await _conversation(on, owner, name)
        behind: int | None = None
        if page.after is not None:
            last = await store.item(on, owner, name, page.after)
            if last is None:
                raise Problem(400, f"There is no item {page.after} in this conversation.", "after", "invalid_value")
            behind = last.number
        return await store.items_of(on, owner, name, behind, page.limit + 1, page.is_descending)


async def remove(service: Service, owner: Owner, name: str, item_id: str) -> Conversation:
    """One item, its content in the log included. Raises Problem (404)."""
    async with service.database.writing() as on:
        found = await store.item(on, owner, name, item_id)
        if found is None:
            raise not_found("item", f"{item_id} in the conversation {name}")
        await _append(service, on, owner, name, [item_deleted(found.number)])
        await service.log.blank(on, name, owner, found.number)
        return await _conversation(on, owner, name)


def _added(given: Sequence[Mapping[str, Any]]) -> list[Told]:
    for at, one in enumerate(given):
        try:
            msgspec.json.encode(one)
        except UnicodeEncodeError as error:
            where = f"{ITEMS_PARAM}[{at}]"
            # What cannot be written as UTF-8 could be kept, and then never be shown.
            raise Invalid(f"{where!r} holds half of a character (a lone surrogate)", where, "invalid_value") from error
    return [item_added(one) for one in taken(given, new, (), ITEMS_PARAM)]


async def _append(service: Service, on: AsyncConnection, owner: Owner, name: str, happened: Sequence[Told]) -> int:
    try:
        return await service.log.append(on, name, owner, None, happened, service.now())
    except NoStreamError as error:
        raise not_found("conversation", name) from error


async def _conversation(on: AsyncConnection, owner: Owner, name: str) -> Conversation:
    found = await store.conversation(on, owner, name)
    if found is None:
        raise not_found("conversation", name)
    return found
