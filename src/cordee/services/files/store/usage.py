"""What a tenant has, counted in the transaction that changes it. Its row is what two changes of one tenant wait for."""

from __future__ import annotations

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.files.tables import usage


@record
class Used:
    bytes: int
    files: int


async def used_by(on: AsyncConnection, tenant: str) -> Used:
    row = (await on.execute(select(usage).where(usage.c.tenant == tenant))).first()
    return Used(0, 0) if row is None else Used(row.bytes, row.files)


async def add(on: AsyncConnection, tenant: str, size: int, files: int) -> Used:
    """More, or less where they are negative. Returns what the tenant has then."""
    dialect = postgresql if on.dialect.name == "postgresql" else sqlite
    new = dialect.insert(usage).values(tenant=tenant, bytes=0, files=0).on_conflict_do_nothing()
    await on.execute(new)
    more = update(usage).where(usage.c.tenant == tenant)
    more = more.values(bytes=usage.c.bytes + size, files=usage.c.files + files)
    row = (await on.execute(more.returning(usage.c.bytes, usage.c.files))).one()
    return Used(row.bytes, row.files)


async def forget(on: AsyncConnection, tenant: str) -> None:
    """Nothing is left of the tenant."""
    await on.execute(delete(usage).where(usage.c.tenant == tenant))
