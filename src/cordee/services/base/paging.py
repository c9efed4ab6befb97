"""Pages as OpenAI cuts them: `limit`, `after`, `order`; a page says its first and last id and whether there is more.

A page begins behind an id, not at a number, so it costs the same wherever it lies, and nothing is skipped or shown twice when entries
come and go in between. Ids sort by age (identifiers.py), so no row has to be looked up to know where `after` is.
"""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from fastapi import Depends, Query
from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement, Select

from cordee.domain.record import record
from cordee.services.base.identifiers import PATTERN

LIMIT_USUAL = 20
LIMIT_MAX = 100
T = TypeVar("T")


@record
class Page:
    """What is asked for: at most `limit` entries behind the id `after`, the newest first if `is_descending`."""

    limit: int = LIMIT_USUAL
    after: str | None = None
    is_descending: bool = True


def _asked(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="How many entries at most.")] = LIMIT_USUAL,
    after: Annotated[str | None, Query(pattern=PATTERN, description="The `last_id` of the page before.")] = None,
    order: Annotated[Literal["asc", "desc"], Query(description="By age; `desc`: the newest first.")] = "desc",
) -> Page:
    return Page(limit, after, order == "desc")


Asked = Annotated[Page, Depends(_asked)]


class Listing(BaseModel, Generic[T]):
    """One page of a list."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None = Field(description="None when the page is empty.")
    last_id: str | None = Field(description="`after` of the next page.")
    has_more: bool


def cut(query: Select[Any], column: ColumnElement[str], page: Page) -> Select[Any]:
    """`query` for this page and one entry more, which tells whether there is a next one."""
    if page.after is not None:
        query = query.where(column < page.after if page.is_descending else column > page.after)
    return query.order_by(column.desc() if page.is_descending else column.asc()).limit(page.limit + 1)


def taken(rows: list[T], page: Page) -> tuple[list[T], bool]:
    """The page among what `cut` found, and whether there is more."""
    return rows[: page.limit], len(rows) > page.limit
