"""The book of contents: nothing is in storage that is not written here first, and a content belongs to somebody only from the moment
at which `keep` found it still being written by who says so."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.files.records import Blob, BlobState
from cordee.services.files.tables import blobs


async def begin(on: AsyncConnection, blob: Blob, tenant: str, until: float) -> None:
    await on.execute(
        insert(blobs).values(
            name=blob.name, tenant=tenant, state=BlobState.WRITING.value, until=until, size=0,
            master=blob.master, wrapped=blob.wrapped,
        )
    )  # fmt: skip


async def go_on(on: AsyncConnection, name: str, until: float) -> bool:
    """Another lease. False: it has ended, and the content is no longer the writer's."""
    mine = (blobs.c.name == name) & (blobs.c.state == BlobState.WRITING.value)
    return (await on.execute(update(blobs).where(mine).values(until=until))).rowcount == 1


async def keep(on: AsyncConnection, name: str, size: int) -> bool:
    """It is whole, and somebody's. False: its lease had ended, and it is being removed."""
    mine = (blobs.c.name == name) & (blobs.c.state == BlobState.WRITING.value)
    return (await on.execute(update(blobs).where(mine).values(state=BlobState.KEPT.value, size=size))).rowcount == 1


async def let_go(on: AsyncConnection, names: Sequence[str]) -> None:
    """They are nobody's any more."""
    if names:
        await on.execute(update(blobs).where(blobs.c.name.in_(names)).values(state=BlobState.GONE.value))


async def give_up(on: AsyncConnection, name: str) -> bool:
    """What was being written is nobody's. False: it has been kept after all, or given up already."""
    mine = (blobs.c.name == name) & (blobs.c.state == BlobState.WRITING.value)
    return (await on.execute(update(blobs).where(mine).values(state=BlobState.GONE.value))).rowcount == 1


async def give_up_silent(on: AsyncConnection, now: float) -> int:
    """What nobody has gone on writing is nobody's. Returns how many."""
    silent = (blobs.c.state == BlobState.WRITING.value) & (blobs.c.until < now)
    return (await on.execute(update(blobs).where(silent).values(state=BlobState.GONE.value))).rowcount


async def gone(on: AsyncConnection, most: int) -> list[str]:
    query = select(blobs.c.name).where(blobs.c.state == BlobState.GONE.value).order_by(blobs.c.name).limit(most)
    return list((await on.execute(query)).scalars())


async def forget(on: AsyncConnection, names: Sequence[str]) -> None:
    """Their bytes are gone."""
    if names:
        lost = blobs.c.name.in_(names) & (blobs.c.state == BlobState.GONE.value)
        await on.execute(delete(blobs).where(lost))


async def blob_of(on: AsyncConnection, name: str) -> Blob | None:
    query = select(blobs).where(blobs.c.name == name, blobs.c.state == BlobState.KEPT.value)
    row = (await on.execute(query)).first()
    return None if row is None else Blob(row.name, row.size, row.master, row.wrapped)


async def blobs_of(on: AsyncConnection, names: Sequence[str]) -> list[Blob]:
    """In the order of `names`; without those that are not there."""
    query = select(blobs).where(blobs.c.name.in_(names), blobs.c.state == BlobState.KEPT.value)
    found = {row.name: Blob(row.name, row.size, row.master, row.wrapped) for row in (await on.execute(query)).all()}
    return [found[name] for name in names if name in found]


async def kept_after(on: AsyncConnection, name: str, most: int) -> list[str]:
    """Names of whole contents behind `name` in their order: all there is to copy when an installation is backed up."""
    query = select(blobs.c.name).where(blobs.c.state == BlobState.KEPT.value, blobs.c.name > name)
    return list((await on.execute(query.order_by(blobs.c.name).limit(most))).scalars())
