"""Responses as they are read, made from their events, and how they are found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Select, delete, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.chats.log import ERASED, Owner, Recorded
from cordee.services.chats.responses.telling import BEGUN, ENDED
from cordee.services.chats.tables import response_events, response_runs, responses


@record
class Stored:
    """A response: its input items and the response object."""

    id: str
    is_background: bool
    input: Sequence[Mapping[str, Any]]
    body: Mapping[str, Any]


class Responses:
    """One row per response. services.chats.log.Projection."""

    async def apply(self, on: AsyncConnection, recorded: Sequence[Recorded]) -> None:
        for one in recorded:
            if one.type == BEGUN and one.data:
                response = one.data["response"]
                await on.execute(
                    insert(responses).values(
                        id=one.stream, tenant=one.owner.tenant, subject=one.owner.subject, body=response,
                        input=one.data["input"], is_background=response["background"], is_open=True,
                        previous=response["previous_response_id"],
                    )
                )  # fmt: skip
            elif one.type == ENDED and one.data:
                mine = update(responses).where(responses.c.id == one.stream)
                await on.execute(mine.values(body=one.data["response"], is_open=False))
            elif one.type == ERASED:
                # A run is no projection, and stays when one is made anew; it goes with its response alone.
                await on.execute(delete(response_runs).where(response_runs.c.id == one.stream))
                await on.execute(delete(response_events).where(response_events.c.response == one.stream))

    async def clear(self, on: AsyncConnection, stream: str) -> None:
        await on.execute(delete(responses).where(responses.c.id == stream))


async def find(on: AsyncConnection, owner: Owner, response_id: str) -> Stored | None:
    """The owner's; None for everybody else's."""
    row = (await on.execute(_all().where(*_of(owner), responses.c.id == response_id))).first()
    return None if row is None else Stored(row.id, row.is_background, row.input, row.body)


async def chain(on: AsyncConnection, owner: Owner, response_id: str, length_max: int) -> list[Stored]:
    """The response and those before it, the oldest first; at most `length_max` and one. Ends where one is missing."""
    here = (
        select(responses.c.id, responses.c.previous, literal(1).label("depth"))
        .where(*_of(owner), responses.c.id == response_id)
        .cte("chain", recursive=True)
    )
    before = (
        select(responses.c.id, responses.c.previous, (here.c.depth + 1).label("depth"))
        .join(here, responses.c.id == here.c.previous)
        .where(*_of(owner), here.c.depth <= length_max)
    )
    here = here.union_all(before)
    query = _all().join(here, here.c.id == responses.c.id).order_by(here.c.depth.desc())
    return [Stored(row.id, row.is_background, row.input, row.body) for row in (await on.execute(query)).all()]


async def left_open(on: AsyncConnection, older_than: str, limit: int) -> list[tuple[Owner, Stored]]:
    """Responses that a client waited for, begun before the id `older_than` was, and without an end."""
    old = responses.c.is_open.is_(True), responses.c.is_background.is_(False), responses.c.id < older_than
    query = (
        _all().add_columns(responses.c.tenant, responses.c.subject).where(*old).order_by(responses.c.id).limit(limit)
    )
    return [_owned(row) for row in (await on.execute(query)).all()]


async def named(on: AsyncConnection, response_id: str) -> tuple[Owner, Stored] | None:
    """Whoever's it is: for settling what a dead process left, never for a client."""
    query = _all().add_columns(responses.c.tenant, responses.c.subject).where(responses.c.id == response_id)
    row = (await on.execute(query)).first()
    return None if row is None else _owned(row)


def _owned(row: Any) -> tuple[Owner, Stored]:
    return Owner(row.tenant, row.subject), Stored(row.id, row.is_background, row.input, row.body)


def _all() -> Select[Any]:
    return select(responses.c.id, responses.c.is_background, responses.c.input, responses.c.body)


def _of(owner: Owner) -> tuple[Any, ...]:
    return responses.c.tenant == owner.tenant, responses.c.subject == owner.subject
