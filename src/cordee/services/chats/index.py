"""The words of messages in `texts`, and, on SQLite, in its full-text index, which does not follow by itself.

(Triggers could make it follow, but a database whose schema is not trusted, as ours is opened, runs no virtual table in a trigger.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, bindparam, delete, func, insert, literal_column, text
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.chats.tables import texts

_PUT = text("INSERT INTO texts_fts (rowid, words) VALUES (:position, :said)")
# SQLite's way to take an entry out of an index that keeps no text: the text has to be said once more.
_TAKE_OUT = "INSERT INTO texts_fts (texts_fts, rowid, words) SELECT 'delete', position, words FROM texts WHERE conversation = :of"


async def put(on: AsyncConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of `texts` with the folded words as `said`."""
    if not rows:
        return
    given: Any = bindparam("said")
    if on.dialect.name == "postgresql":
        await on.execute(insert(texts).values(words=func.to_tsvector(literal_column("'simple'"), given)), rows)
        return
    await on.execute(insert(texts).values(words=given), rows)
    await on.execute(_PUT, [{"position": row["position"], "said": row["said"]} for row in rows])


async def take_out(on: AsyncConnection, conversation: str, number: int | None = None) -> None:
    """The words of one item, or of all items of the conversation."""
    which: list[ColumnElement[bool]] = [texts.c.conversation == conversation]
    given: dict[str, Any] = {"of": conversation}
    statement = _TAKE_OUT
    if number is not None:
        which.append(texts.c.number == number)
        given["number"] = number
        statement += " AND number = :number"
    if on.dialect.name != "postgresql":
        await on.execute(text(statement), given)
    await on.execute(delete(texts).where(*which))


async def sweep(on: AsyncConnection) -> None:
    """Make the index hold what `texts` holds, whatever it held."""
    if on.dialect.name != "postgresql":
        await on.execute(text("INSERT INTO texts_fts (texts_fts) VALUES ('rebuild')"))
