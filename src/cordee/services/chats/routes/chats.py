"""The list of one's conversations, their titles, and search in them."""

from __future__ import annotations

from typing import Annotated, TypeVar

from fastapi import Query

from cordee.services.base.errors import Problem, documented
from cordee.services.base.identifiers import PATTERN
from cordee.services.base.paging import LIMIT_MAX, LIMIT_USUAL, Asked, Listing, Page, taken
from cordee.services.base.strict import Router
from cordee.services.chats import conversations, store
from cordee.services.chats.entitle import give_title
from cordee.services.chats.routes.shapes import ChatChanged, ChatShape, HitShape, chat_shape, hit_shape
from cordee.services.chats.routes.who import At, PathId, Reader, Writer, Writing
from cordee.services.chats.words import UNITS_MAX, units

QUESTION_CHARACTERS_MAX = 1000
USUAL = documented(400, 401, 403, 404, 413, 503)
router = Router(prefix="/v1/chats", tags=["chats"])


@router.get("", responses=USUAL)
async def chats(
    service: At,
    owner: Reader,
    page: Asked,
    archived: Annotated[bool | None, Query(description="Only those put away, or only the others.")] = None,
) -> Listing[ChatShape]:
    """One's own conversations, the newest first."""
    async with service.database.reading() as on:
        found = await store.listed(on, owner, page, archived)
    shown, more = taken([chat_shape(one) for one in found], page)
    return _page(shown, more)


@router.get("/search", responses=USUAL)
async def search(
    service: At,
    owner: Reader,
    q: Annotated[str, Query(min_length=1, max_length=QUESTION_CHARACTERS_MAX, description='Words, and "phrases".')],
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX)] = LIMIT_USUAL,
    after: Annotated[str | None, Query(pattern=PATTERN, description="The `last_id` of the page before.")] = None,
) -> Listing[HitShape]:
    """One's own messages in which all the words stand, the newest first."""
    wanted = units(q)
    if not 1 <= len(wanted) <= UNITS_MAX:
        raise Problem(400, f"'q' holds {len(wanted)} words; send 1 to {UNITS_MAX}.", "q", "invalid_value")
    async with service.database.reading() as on:
        behind = None if after is None else await store.position_of(on, owner, after)
        if after is not None and behind is None:
            raise Problem(400, "There is no such page: send the `last_id` of the one before.", "after", "invalid_value")
        found = await store.found(on, owner, wanted, behind, limit + 1)
    shown, more = taken([hit_shape(one, q) for one in found], Page(limit=limit))
    return _page(shown, more)


@router.get("/{conversation}", responses=USUAL)
async def retrieve(service: At, owner: Reader, conversation: PathId) -> ChatShape:
    return chat_shape(await conversations.find(service, owner, conversation))


@router.post("/{conversation}", responses=USUAL)
async def update(service: At, owner: Writer, conversation: PathId, given: ChatChanged) -> ChatShape:
    """Give it a title; put it away, or take it out again."""
    changed = await conversations.change(service, owner, conversation, title=given.title, is_archived=given.archived)
    return chat_shape(changed)


@router.post("/{conversation}/title", responses=USUAL | documented(409, 502))
async def entitle(service: At, asking: Writing, conversation: PathId) -> ChatShape:
    """Let a model give it a title."""
    return chat_shape(await give_title(service, asking, conversation))


S = TypeVar("S", ChatShape, HitShape)


def _page(shown: list[S], more: bool) -> Listing[S]:
    return Listing[S](
        data=shown, has_more=more, first_id=shown[0].id if shown else None, last_id=shown[-1].id if shown else None
    )
