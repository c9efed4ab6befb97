"""Deliveries. Whoever sends one has taken it up first, for a time and by a number: a second process takes it up only after that time,
and what the first one writes then is refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.identifiers import new
from cordee.services.base.paging import Page, cut
from cordee.services.webhooks.records import Delivery, Endpoint
from cordee.services.webhooks.rules.schedule import Next, State, Tried
from cordee.services.webhooks.rules.words import Message
from cordee.services.webhooks.tables import deliveries

PREFIX = "whd"
WHY_CHARACTERS = 256
_c = deliveries.c


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        row.id, row.endpoint_id, row.tenant, row.message, row.type, row.body, State(row.state), row.tries, row.number,
        row.created_at, row.next_at, row.ended_at, row.status, row.why,
    )  # fmt: skip


async def add(on: AsyncConnection, endpoint: Endpoint, message: Message, now: float) -> None:
    await on.execute(
        insert(deliveries).values(
            id=new(PREFIX), endpoint_id=endpoint.id, tenant=endpoint.owner.tenant, message=message.id, type=message.type,
            body=message.body, state=State.WAITING.value, tries=0, number=0, created_at=now, next_at=now, why="",
        )
    )  # fmt: skip


async def count_waiting(on: AsyncConnection, endpoint: str) -> int:
    waiting = (_c.endpoint_id == endpoint) & (_c.state == State.WAITING.value)
    found: int = (await on.execute(select(func.count()).where(waiting))).scalar_one()
    return found


async def of(on: AsyncConnection, endpoint: str, id: str) -> Delivery | None:
    """`endpoint`: one that the caller was found to own."""
    row = (await on.execute(select(deliveries).where((_c.endpoint_id == endpoint) & (_c.id == id)))).first()
    return None if row is None else _delivery(row)


async def page(on: AsyncConnection, endpoint: str, asked: Page) -> list[Delivery]:
    query = select(deliveries).where(_c.endpoint_id == endpoint)
    return [_delivery(row) for row in await on.execute(cut(query, _c.id, asked))]


async def again(on: AsyncConnection, endpoint: str, id: str, now: float) -> bool:
    """Let one that has ended begin anew."""
    ended = (_c.endpoint_id == endpoint) & (_c.id == id) & (_c.state != State.WAITING.value)
    anew = {"state": State.WAITING.value, "tries": 0, "next_at": now, "ended_at": None, "until": None}
    return bool((await on.execute(update(deliveries).where(ended).values(**anew))).rowcount)


async def due(on: AsyncConnection, now: float, per_endpoint: int, limit: int) -> list[Delivery]:
    """Those to be tried now and taken up by nobody, of each endpoint the first few: a slow one does not stand before the others."""
    free = (_c.state == State.WAITING.value) & (_c.next_at <= now) & or_(_c.until.is_(None), _c.until < now)
    place = func.row_number().over(partition_by=_c.endpoint_id, order_by=(_c.next_at, _c.id)).label("place")
    ranked = select(_c.id, place).where(free).subquery()
    query = select(deliveries).join(ranked, ranked.c.id == _c.id).where(ranked.c.place <= per_endpoint)
    return [_delivery(row) for row in await on.execute(query.order_by(_c.next_at).limit(limit))]


async def take_up(on: AsyncConnection, one: Delivery, now: float, until: float) -> bool:
    """Whether it is this process that sends it."""
    still = (_c.id == one.id) & (_c.number == one.number) & (_c.state == State.WAITING.value)
    free = or_(_c.until.is_(None), _c.until < now)
    taken = update(deliveries).where(still & free).values(number=one.number + 1, until=until)
    return bool((await on.execute(taken)).rowcount)


async def note(on: AsyncConnection, one: Delivery, number: int, tried: Tried, follows: Next, now: float) -> bool:
    """What came of a try; whether it was still this process's."""
    held = (_c.id == one.id) & (_c.number == number) & (_c.state == State.WAITING.value)
    ended_at = None if follows.state is State.WAITING else now
    said = update(deliveries).where(held).values(
        state=follows.state.value, tries=one.tries + 1, next_at=now + follows.wait_s, until=None, ended_at=ended_at,
        status=tried.status or None, why=tried.why[:WHY_CHARACTERS],
    )  # fmt: skip
    return bool((await on.execute(said)).rowcount)


async def give_up(on: AsyncConnection, endpoint: str, now: float, why: str) -> None:
    """End all that wait for an endpoint."""
    waiting = (_c.endpoint_id == endpoint) & (_c.state == State.WAITING.value)
    await on.execute(
        update(deliveries).where(waiting).values(state=State.FAILED.value, ended_at=now, until=None, why=why)
    )


async def forget(on: AsyncConnection, before: float) -> int:
    """Delete what ended before then and return how many."""
    return (await on.execute(delete(deliveries).where(_c.ended_at < before))).rowcount


async def all_of(on: AsyncConnection, endpoints: Sequence[str], after: str, limit: int) -> list[Delivery]:
    """In order of age, behind the id `after`."""
    query = select(deliveries).where(_c.endpoint_id.in_(endpoints) & (_c.id > after)).order_by(_c.id).limit(limit)
    return [_delivery(row) for row in await on.execute(query)]
