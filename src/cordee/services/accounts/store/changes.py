"""Which object changed when, by a revision that gateways follow: one row for each object there is or was, written with its change.

A change is noted where it is made, without a number, and numbered last in its transaction, from one row that all of them share: so
revisions become visible in their order, nobody is waited for while that row is held, and one that was asked for is never skipped.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import and_, case, delete, exists, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.accounts.tables import api_keys, applications, changes, families, feed_clock, tenants, users

_NOTED = "cordee_changes_noted"
_UNNUMBERED = 0


class Kind(StrEnum):
    """What can change."""

    KEY = "key"
    PRINCIPAL = "principal"  # a user or an application
    TENANT = "tenant"
    FAMILY = "family"  # ended


@record
class Clock:
    """`epoch`: the life of this database; `revision`: of the last change; `floor`: up to which some rows were forgotten, so that who
    knows less must begin anew."""

    epoch: str
    revision: int
    floor: int


@record
class Changed:
    """Objects that have changed, by their kinds, up to `revision`."""

    revision: int
    names: dict[Kind, list[str]]


async def note(on: AsyncConnection, kind: Kind, *names: str) -> None:
    """These change in the transaction of `on`."""
    upsert = postgresql.insert if on.dialect.name == "postgresql" else sqlite.insert
    for name in sorted(names):
        fresh = upsert(changes).values(kind=kind.value, name=name, revision=_UNNUMBERED, at=0.0)
        await on.execute(fresh.on_conflict_do_update(index_elements=["kind", "name"], set_={"revision": _UNNUMBERED}))
    on.sync_connection.info[_NOTED] = True  # type: ignore[union-attr]  # one that is begun has it


async def number(on: AsyncConnection, now: float) -> None:
    """What was noted gets its revision. The last step of a transaction."""
    assert on.sync_connection is not None, "the transaction is begun"
    if not on.sync_connection.info.pop(_NOTED, False):
        return
    next_one = update(feed_clock).values(revision=feed_clock.c.revision + 1).returning(feed_clock.c.revision)
    revision = (await on.execute(next_one)).scalar_one()
    await on.execute(update(changes).where(changes.c.revision == _UNNUMBERED).values(revision=revision, at=now))


async def clock(on: AsyncConnection) -> Clock:
    row = (await on.execute(select(feed_clock))).one()
    return Clock(row.epoch, row.revision, row.floor)


async def renew(on: AsyncConnection, epoch: str) -> None:
    """The database has another life from now on, as after it was restored: gateways begin anew."""
    await on.execute(update(feed_clock).values(epoch=epoch))


async def after(on: AsyncConnection, revision: int, most: int) -> Changed | None:
    """About `most` objects that changed after `revision`, all of a revision together; None for none."""
    c = changes.c
    behind = select(c.revision).where(c.revision > revision).order_by(c.revision)
    last = (await on.execute(behind.offset(most - 1).limit(1))).scalar_one_or_none()
    query = select(c.kind, c.name, c.revision).where(c.revision > revision)
    rows = (await on.execute(query if last is None else query.where(c.revision <= last))).all()
    if not rows:
        return None
    names: dict[Kind, list[str]] = {kind: [] for kind in Kind}
    for row in rows:
        names[Kind(row.kind)].append(row.name)
    return Changed(max(row.revision for row in rows), names)


async def forget(on: AsyncConnection, gone_before: float, ended_before: float) -> None:
    """Drop the rows of objects that have been gone since before `gone_before`, and of families that ended before `ended_before`: no
    token of theirs is in force any more, so nobody has to hear of them."""
    c = changes.c
    await on.execute(delete(changes).where(c.kind == Kind.FAMILY.value, c.at < ended_before, c.revision > _UNNUMBERED))
    ids = {
        Kind.KEY: (api_keys,), Kind.PRINCIPAL: (users, applications), Kind.TENANT: (tenants,),
    }  # fmt: skip
    gone = or_(
        *(
            and_(c.kind == kind.value, *(~exists().where(table.c.id == c.name) for table in tables))
            for kind, tables in ids.items()
        )
    )
    old = and_(c.at < gone_before, c.revision > _UNNUMBERED, gone)
    newest = (await on.execute(select(func.max(c.revision)).where(old))).scalar_one_or_none()
    if newest is None:
        return
    floor = case((feed_clock.c.floor > newest, feed_clock.c.floor), else_=newest)
    await on.execute(update(feed_clock).values(floor=floor))
    await on.execute(delete(changes).where(old))


async def families_ended(on: AsyncConnection, names: list[str]) -> dict[str, float]:
    """When each of these ended; those that are not known any more are left out."""
    query = select(families.c.id, families.c.revoked_at).where(
        families.c.id.in_(names), families.c.revoked_at.is_not(None)
    )
    return {row.id: row.revoked_at for row in (await on.execute(query)).all()}
