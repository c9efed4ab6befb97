"""OpenAI's Conversations API."""

from __future__ import annotations

from typing import Any

from cordee.services.base.errors import documented
from cordee.services.base.paging import Asked, Listing, Page
from cordee.services.base.strict import Router
from cordee.services.chats import conversations
from cordee.services.chats.routes.shapes import (
    ITEMS_PER_REQUEST_MAX,
    ConversationChanged,
    ConversationDeleted,
    ConversationGiven,
    ConversationShape,
    ItemsGiven,
    conversation_shape,
    item_listing,
    item_shape,
)
from cordee.services.chats.routes.who import At, Included, PathId, Reader, Writer

USUAL = documented(400, 401, 403, 404, 413, 503)
router = Router(prefix="/v1/conversations", tags=["conversations"])


@router.post("", responses=USUAL)
async def create(service: At, owner: Writer, given: ConversationGiven | None = None) -> ConversationShape:
    """Begin a conversation, empty or with up to 20 items."""
    given = given or ConversationGiven()
    return conversation_shape(await conversations.begin(service, owner, given.metadata or {}, given.items or []))


@router.get("/{conversation}", responses=USUAL)
async def retrieve(service: At, owner: Reader, conversation: PathId) -> ConversationShape:
    return conversation_shape(await conversations.find(service, owner, conversation))


@router.post("/{conversation}", responses=USUAL)
async def update(service: At, owner: Writer, conversation: PathId, given: ConversationChanged) -> ConversationShape:
    """Replace the metadata."""
    return conversation_shape(await conversations.change(service, owner, conversation, metadata=given.metadata or {}))


@router.delete("/{conversation}", responses=USUAL)
async def delete(service: At, owner: Writer, conversation: PathId) -> ConversationDeleted:
    """Delete the conversation with all its items, and the responses that belong to it."""
    await conversations.delete(service, owner, conversation)
    return ConversationDeleted(id=conversation)


@router.post("/{conversation}/items", responses=USUAL | documented(409))
async def add(
    service: At, owner: Writer, conversation: PathId, given: ItemsGiven, include: Included
) -> Listing[dict[str, Any]]:
    """Add up to 20 items."""
    added = await conversations.add(service, owner, conversation, given.items)
    return item_listing(added, include, Page(limit=ITEMS_PER_REQUEST_MAX))


@router.get("/{conversation}/items", responses=USUAL)
async def items(
    service: At, owner: Reader, conversation: PathId, page: Asked, include: Included
) -> Listing[dict[str, Any]]:
    """A page of items, the newest first unless `order` says otherwise."""
    return item_listing(await conversations.items(service, owner, conversation, page), include, page)


@router.get("/{conversation}/items/{item}", responses=USUAL)
async def item(service: At, owner: Reader, conversation: PathId, item: PathId, include: Included) -> dict[str, Any]:
    return item_shape(await conversations.item(service, owner, conversation, item), include)


@router.delete("/{conversation}/items/{item}", responses=USUAL)
async def remove(service: At, owner: Writer, conversation: PathId, item: PathId) -> ConversationShape:
    """Delete one item; the conversation is the answer."""
    return conversation_shape(await conversations.remove(service, owner, conversation, item))
