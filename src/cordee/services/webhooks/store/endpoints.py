"""Endpoints. Every query on one has its owner in its WHERE: another's is one that does not exist."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.paging import Page, cut
from cordee.services.webhooks.records import Endpoint, Owner
from cordee.services.webhooks.tables import endpoints

_c = endpoints.c


def _own(owner: Owner, id: str) -> Any:
    return (_c.tenant == owner.tenant) & (_c.subject == owner.subject) & (_c.id == id)


def _endpoint(row: Row[Any]) -> Endpoint:
    return Endpoint(
        row.id, Owner(row.tenant, row.subject), row.name, row.url, tuple(row.event_types), row.sealed, row.hint,
        row.created_at, row.updated_at, row.previous, row.previous_until, row.failing_since, row.disabled_at,
    )  # fmt: skip


def _row(one: Endpoint) -> dict[str, Any]:
    return {
        "name": one.name, "url": one.url, "event_types": list(one.event_types), "sealed": one.sealed, "hint": one.hint,
        "updated_at": one.updated_at, "previous": one.previous, "previous_until": one.previous_until,
        "failing_since": one.failing_since, "disabled_at": one.disabled_at,
    }  # fmt: skip


async def add(on: AsyncConnection, one: Endpoint) -> None:
    owned = {"id": one.id, "tenant": one.owner.tenant, "subject": one.owner.subject, "created_at": one.created_at}
    await on.execute(insert(endpoints).values(**owned, **_row(one)))


async def change(on: AsyncConnection, one: Endpoint) -> None:
    await on.execute(update(endpoints).where(_own(one.owner, one.id)).values(**_row(one)))


async def of(on: AsyncConnection, owner: Owner, id: str, is_held: bool = False) -> Endpoint | None:
    """`is_held`: nobody else changes it until the transaction ends."""
    query = select(endpoints).where(_own(owner, id))
    row = (await on.execute(query.with_for_update() if is_held else query)).first()
    return None if row is None else _endpoint(row)


async def by_id(on: AsyncConnection, id: str, is_held: bool = False) -> Endpoint | None:
    """Whoever's it is: for deliveries, which know their endpoint from the database."""
    query = select(endpoints).where(_c.id == id)
    row = (await on.execute(query.with_for_update() if is_held else query)).first()
    return None if row is None else _endpoint(row)


async def page(on: AsyncConnection, owner: Owner, asked: Page) -> list[Endpoint]:
    query = select(endpoints).where((_c.tenant == owner.tenant) & (_c.subject == owner.subject))
    return [_endpoint(row) for row in await on.execute(cut(query, _c.id, asked))]


async def count(on: AsyncConnection, tenant: str) -> int:
    found: int = (await on.execute(select(func.count()).where(_c.tenant == tenant))).scalar_one()
    return found


async def who_want(on: AsyncConnection, tenant: str, subject: str | None, type: str) -> list[Endpoint]:
    """The endpoints in force that are told of this. `subject` None: of anybody in the tenant."""
    query = select(endpoints).where((_c.tenant == tenant) & _c.disabled_at.is_(None))
    if subject is not None:
        query = query.where(_c.subject == subject)
    return [one for one in map(_endpoint, await on.execute(query)) if type in one.event_types]


async def remove(on: AsyncConnection, owner: Owner, id: str) -> bool:
    return bool((await on.execute(delete(endpoints).where(_own(owner, id)))).rowcount)


async def erase(on: AsyncConnection, tenant: str, subject: str | None, limit: int) -> int:
    """Remove some of a tenant's, or of one in it, with their deliveries, and return how many."""
    whose = (_c.tenant == tenant) if subject is None else (_c.tenant == tenant) & (_c.subject == subject)
    some = select(_c.id).where(whose).limit(limit)
    return (await on.execute(delete(endpoints).where(_c.id.in_(some)))).rowcount


async def mark(on: AsyncConnection, id: str, failing_since: float | None, disabled_at: float | None) -> None:
    """How an endpoint is, as deliveries have found."""
    await on.execute(update(endpoints).where(_c.id == id).values(failing_since=failing_since, disabled_at=disabled_at))
