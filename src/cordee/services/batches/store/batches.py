"""Batches. Whatever is asked says whose it is, by tenant and by user or application: another one's is not found."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.paging import Page, cut
from cordee.services.batches.records import Batch, Endpoint, Fault, Status, Usage
from cordee.services.batches.tables import MOMENTS, batches

_AS_THEY_ARE = (
    "id", "tenant", "key", "subject", "job", "input_file", "output_lasts_s", "created_at", "expires_at", "model", "total",
    "completed", "failed", "output_file", "error_file", *MOMENTS,
)  # fmt: skip


async def add(on: AsyncConnection, batch: Batch) -> None:
    await on.execute(insert(batches).values(**_values(batch)))


async def seen(on: AsyncConnection, tenant: str, subject: str, batch_id: str) -> Batch | None:
    row = (await on.execute(select(batches).where(batches.c.id == batch_id, *_of(tenant, subject)))).first()
    return _batch(row) if row else None


async def held(on: AsyncConnection, tenant: str, subject: str, batch_id: str) -> Batch | None:
    """The same, and nobody else changes it before this transaction ends."""
    query = select(batches).where(batches.c.id == batch_id, *_of(tenant, subject)).with_for_update()
    row = (await on.execute(query)).first()
    return _batch(row) if row else None


async def page(on: AsyncConnection, tenant: str, subject: str, asked: Page) -> list[Batch]:
    """One more than the page holds, if there is one."""
    query = cut(select(batches).where(*_of(tenant, subject)), batches.c.id, asked)
    return [_batch(row) for row in (await on.execute(query)).all()]


async def change(on: AsyncConnection, batch: Batch) -> None:
    await on.execute(
        update(batches).where(batches.c.id == batch.id, batches.c.tenant == batch.tenant).values(**_values(batch))
    )


async def of_subject(on: AsyncConnection, tenant: str, subject: str | None, after: str, most: int) -> list[Batch]:
    """All of a tenant, or of one of its users or applications, in order of age, `most` behind the id `after`."""
    query = select(batches).where(batches.c.id > after, *_of(tenant, subject))
    return [_batch(row) for row in (await on.execute(query.order_by(batches.c.id).limit(most))).all()]


async def erase(on: AsyncConnection, tenant: str, batch_ids: list[str]) -> None:
    """With their lines."""
    await on.execute(delete(batches).where(batches.c.tenant == tenant, batches.c.id.in_(batch_ids)))


def _of(tenant: str, subject: str | None) -> tuple[Any, ...]:
    """`subject` None: of everybody in the tenant."""
    own = (batches.c.tenant == tenant,)
    return own if subject is None else (*own, batches.c.subject == subject)


def _values(batch: Batch) -> dict[str, Any]:
    usage = batch.usage
    return {
        **{name: getattr(batch, name) for name in _AS_THEY_ARE},
        "scopes": sorted(batch.scopes),
        "endpoint": batch.endpoint.value,
        "status": batch.status.value,
        "metadata": None if batch.metadata is None else dict(batch.metadata),
        "faults": msgspec.to_builtins(batch.faults),
        "input_tokens": usage.input,
        "cached_tokens": usage.cached,
        "output_tokens": usage.output,
        "reasoning_tokens": usage.reasoning,
    }


def _batch(row: Row[Any]) -> Batch:
    found = row._mapping
    return Batch(
        **{name: found[name] for name in _AS_THEY_ARE},
        scopes=frozenset(found["scopes"]),
        endpoint=Endpoint(found["endpoint"]),
        status=Status(found["status"]),
        metadata=None if found["metadata"] is None else tuple(found["metadata"].items()),
        faults=msgspec.convert(found["faults"], tuple[Fault, ...]),
        usage=Usage(found["input_tokens"], found["cached_tokens"], found["output_tokens"], found["reasoning_tokens"]),
    )
