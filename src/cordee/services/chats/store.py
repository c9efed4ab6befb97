"""How conversations are read: every query names the owner, so that another's conversation is one that does not exist."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, bindparam, func, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.base.paging import Page, cut
from cordee.services.chats.log import Owner
from cordee.services.chats.tables import conversations, events, items, texts
from cordee.services.chats.words import mark_of


@record
class Conversation:
    """A conversation as it is now. Times: seconds of the epoch."""

    id: str
    created_at: float
    updated_at: float
    title: str
    is_archived: bool
    metadata: Mapping[str, str]


@record
class Item:
    """`number`: its place in the conversation, and the version of the event that added it."""

    number: int
    body: Mapping[str, Any]


@record
class Hit:
    """A message that holds all the words. `event`: the id of the event that added it."""

    event: str
    conversation: str
    title: str
    time: float
    item: Mapping[str, Any]


async def conversation(on: AsyncConnection, owner: Owner, name: str) -> Conversation | None:
    row = (await on.execute(select(conversations).where(*_of(owner), conversations.c.id == name))).first()
    return None if row is None else _conversation(row)


async def listed(on: AsyncConnection, owner: Owner, page: Page, is_archived: bool | None) -> list[Conversation]:
    """The page and one more, if there is one."""
    query = select(conversations).where(*_of(owner))
    if is_archived is not None:
        query = query.where(conversations.c.is_archived == is_archived)
    return [_conversation(row) for row in (await on.execute(cut(query, conversations.c.id, page))).all()]


async def item(on: AsyncConnection, owner: Owner, name: str, item_id: str) -> Item | None:
    query = select(items.c.number, items.c.body).where(*_in(owner, name), items.c.id == item_id)
    row = (await on.execute(query)).first()
    return None if row is None else Item(row.number, row.body)


async def items_of(
    on: AsyncConnection, owner: Owner, name: str, behind: int | None, limit: int, is_descending: bool = False
) -> list[Item]:
    """At most `limit` items, in the order in which they were added or the other way round, behind the one of this number."""
    number = items.c.number
    query = select(number, items.c.body).where(*_in(owner, name))
    if behind is not None:
        query = query.where(number < behind if is_descending else number > behind)
    query = query.order_by(number.desc() if is_descending else number).limit(limit)
    return [Item(row.number, row.body) for row in (await on.execute(query)).all()]


async def position_of(on: AsyncConnection, owner: Owner, event: str) -> int | None:
    """Of an event that told of one of the owner's messages."""
    query = (
        select(texts.c.position)
        .join(events, events.c.position == texts.c.position)
        .where(events.c.id == event, texts.c.tenant == owner.tenant, texts.c.subject == owner.subject)
    )
    return (await on.execute(query)).scalar_one_or_none()


async def found(on: AsyncConnection, owner: Owner, units: list[str], behind: int | None, limit: int) -> list[Hit]:
    """The newest messages that hold all of `units` (words.py), at most `limit`, older than the one at position `behind`."""
    if on.dialect.name == "postgresql":
        matching = _in_postgres(owner, units)
    else:
        matching = _in_sqlite(owner, units)
    matching = matching.where(texts.c.tenant == owner.tenant, texts.c.subject == owner.subject)
    if behind is not None:
        matching = matching.where(texts.c.position < behind)
    newest = matching.order_by(texts.c.position.desc()).limit(limit).subquery()
    query = (
        select(events.c.id, newest.c.conversation, conversations.c.title, events.c.time, items.c.body)
        .join(events, events.c.position == newest.c.position)
        .join(items, (items.c.conversation == newest.c.conversation) & (items.c.number == newest.c.number))
        .join(conversations, conversations.c.id == newest.c.conversation)
        .where(items.c.tenant == owner.tenant, *_of(owner))
        .order_by(newest.c.position.desc())
    )
    return [Hit(row.id, row.conversation, row.title, row.time, row.body) for row in (await on.execute(query)).all()]


_COLUMNS = (texts.c.position, texts.c.conversation, texts.c.number)


def _in_postgres(owner: Owner, units: list[str]) -> Select[Any]:
    simple: ColumnElement[str] = literal_column("'simple'")
    wanted: ColumnElement[Any] = func.phraseto_tsquery(simple, mark_of(owner))
    for unit in units:
        wanted = wanted.op("&&")(func.phraseto_tsquery(simple, unit))
    return select(*_COLUMNS).where(texts.c.words.op("@@")(wanted))


def _in_sqlite(owner: Owner, units: list[str]) -> Select[Any]:
    # Units hold letters, digits and spaces alone (words.folded), so nothing in them can end the quotes.
    wanted = " AND ".join(f'"{unit}"' for unit in (mark_of(owner), *units))
    matching = text("texts.position IN (SELECT rowid FROM texts_fts WHERE texts_fts MATCH :wanted)")
    return select(*_COLUMNS).where(matching.bindparams(bindparam("wanted", wanted)))


def _of(owner: Owner) -> tuple[Any, ...]:
    return conversations.c.tenant == owner.tenant, conversations.c.subject == owner.subject


def _in(owner: Owner, name: str) -> tuple[Any, ...]:
    """The items of one conversation of the owner."""
    theirs = select(conversations.c.id).where(*_of(owner), conversations.c.id == name)
    return items.c.conversation == name, items.c.tenant == owner.tenant, theirs.exists()


def _conversation(row: Any) -> Conversation:
    return Conversation(row.id, row.created_at, row.updated_at, row.title, row.is_archived, row.metadata)
