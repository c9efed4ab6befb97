"""What is read of conversations, made from their events: the list, the items, and the words by which messages are found.

Each is told of events in their order, inside the transaction that tells them, and makes the same of the same events at any time later:
no clock, no chance, nothing that is not in the events. An event that was blanked is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.chats import index
from cordee.services.chats.log import Projection, Recorded
from cordee.services.chats.tables import conversations, items
from cordee.services.chats.telling import ARCHIVED, CREATED, ITEM_ADDED, ITEM_DELETED, TITLED, UPDATED
from cordee.services.chats.titles import title_of
from cordee.services.chats.words import folded, mark_of, text_of

_OF_CONVERSATIONS = frozenset({CREATED, UPDATED, TITLED, ARCHIVED, ITEM_ADDED, ITEM_DELETED})
_LOOKED_THROUGH = 50  # items at once, when the next one that can give the title is looked for


class Conversations:
    """One row per conversation: title, metadata, when something last happened. Stands behind `Items`, in which it looks for a title."""

    async def apply(self, on: AsyncConnection, recorded: Sequence[Recorded]) -> None:
        theirs = [one for one in recorded if one.type in _OF_CONVERSATIONS]
        if not theirs:
            return
        stream = theirs[0].stream
        row = (await on.execute(select(conversations).where(conversations.c.id == stream))).mappings().first()
        found: dict[str, Any] = {} if row is None else dict(row)
        for one in theirs:
            found = (
                _first(one)
                if one.type == CREATED
                else {**found, **await _change(on, found, one), "updated_at": one.time}
            )
        known = update(conversations).where(conversations.c.id == stream)
        await on.execute(insert(conversations).values(found) if row is None else known.values(found))

    async def clear(self, on: AsyncConnection, stream: str) -> None:
        await on.execute(delete(conversations).where(conversations.c.id == stream))


class Items:
    """One row per item."""

    async def apply(self, on: AsyncConnection, recorded: Sequence[Recorded]) -> None:
        added = [
            {
                "conversation": one.stream,
                "number": one.version,
                "tenant": one.owner.tenant,
                "id": item["id"],
                "body": dict(item),
            }
            for one, item in _added(recorded)
        ]
        if added:
            await on.execute(insert(items), added)
        for one in recorded:
            if one.type == ITEM_DELETED:
                gone = items.c.conversation == one.stream, items.c.number == one.data["number"]
                await on.execute(delete(items).where(*gone))

    async def clear(self, on: AsyncConnection, stream: str) -> None:
        await on.execute(delete(items).where(items.c.conversation == stream))


class Texts:
    """The words of each message. `characters_max`: of a message, how much of it is looked through."""

    def __init__(self, characters_max: int) -> None:
        self._characters_max = characters_max

    async def apply(self, on: AsyncConnection, recorded: Sequence[Recorded]) -> None:
        said = [
            {
                "position": one.position, "tenant": one.owner.tenant, "subject": one.owner.subject, "conversation": one.stream,
                "number": one.version, "said": f"{mark_of(one.owner)} {words}",
            }
            for one, item in _added(recorded)
            if (words := folded(text_of(item)[: self._characters_max]))
        ]  # fmt: skip
        await index.put(on, said)
        for one in recorded:
            if one.type == ITEM_DELETED:
                await index.take_out(on, one.stream, one.data["number"])

    async def clear(self, on: AsyncConnection, stream: str) -> None:
        await index.take_out(on, stream)


def of_conversations(characters_max: int) -> tuple[Projection, ...]:
    """All of them, in the order in which they are to be applied."""
    return Items(), Texts(characters_max), Conversations()


def _added(recorded: Sequence[Recorded]) -> list[tuple[Recorded, Mapping[str, Any]]]:
    """The items that were added and are still there."""
    return [(one, one.data["item"]) for one in recorded if one.type == ITEM_ADDED and one.data]


def _first(created: Recorded) -> dict[str, Any]:
    return {
        "id": created.stream, "tenant": created.owner.tenant, "subject": created.owner.subject, "created_at": created.time,
        "updated_at": created.time, "title": "", "titled_by": 0, "is_archived": False, "metadata": created.data["metadata"],
    }  # fmt: skip


async def _change(on: AsyncConnection, found: Mapping[str, Any], one: Recorded) -> dict[str, Any]:
    """What an event changes in a conversation's row."""
    if one.type == UPDATED:
        return {"metadata": one.data["metadata"]}
    if one.type == TITLED:
        return {"title": one.data["title"], "titled_by": 0}
    if one.type == ARCHIVED:
        return {"is_archived": one.data["is_archived"]}
    if one.type == ITEM_ADDED and one.data and not found["title"]:
        title = title_of(one.data["item"])
        return {"title": title, "titled_by": one.version} if title else {}
    if one.type == ITEM_DELETED and found["titled_by"] == one.data["number"]:
        # What was deleted is not to live on in the title.
        number, title = await _next_title(on, one)
        return {"title": title, "titled_by": number}
    return {}


async def _next_title(on: AsyncConnection, deleted: Recorded) -> tuple[int, str]:
    """The number of the first item that gives a title, and the title; 0 and "" where there is none."""
    behind = 0
    while True:
        query = (
            select(items.c.number, items.c.body)
            .where(items.c.conversation == deleted.stream, items.c.tenant == deleted.owner.tenant)
            .where(items.c.number > behind, items.c.number < deleted.version)
            .order_by(items.c.number)
            .limit(_LOOKED_THROUGH)
        )
        rows = (await on.execute(query)).all()
        for row in rows:
            if title := title_of(row.body):
                return row.number, title
        if len(rows) < _LOOKED_THROUGH:
            return 0, ""
        behind = rows[-1].number
