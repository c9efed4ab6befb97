"""Uploads and their parts in the database. Whoever asks is in every WHERE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.base.paging import Page, cut
from cordee.services.files.records import Owner, Part, Purpose, Upload, UploadStatus
from cordee.services.files.tables import parts, uploads


@record
class Held:
    """What the parts of an upload come to."""

    count: int
    size: int


async def add(on: AsyncConnection, upload: Upload) -> None:
    await on.execute(
        insert(uploads).values(
            id=upload.id, tenant=upload.owner.tenant, subject=upload.owner.subject, name=upload.name,
            purpose=upload.purpose.value, media_type=upload.media_type, size=upload.size, created_at=upload.created_at,
            expires_at=upload.expires_at, status=upload.status.value, kept_s=upload.kept_s, file_id=None, part_ids=[],
        )
    )  # fmt: skip


async def upload_of(on: AsyncConnection, owner: Owner, upload_id: str, is_held: bool = False) -> Upload | None:
    """`is_held`: nobody else changes it before the transaction ends."""
    whose = (uploads.c.tenant == owner.tenant) & (uploads.c.subject == owner.subject) & (uploads.c.id == upload_id)
    query = select(uploads).where(whose)
    row = (await on.execute(query.with_for_update() if is_held else query)).first()
    return None if row is None else _upload(row)


async def end(
    on: AsyncConnection, upload_id: str, status: UploadStatus, file_id: str | None = None, ids: Sequence[str] = ()
) -> list[str]:
    """It is over. Returns the names of its parts' contents, which are no longer anybody's."""
    values = {"status": status.value, "file_id": file_id, "part_ids": list(ids)}
    await on.execute(update(uploads).where(uploads.c.id == upload_id).values(values))
    return list(
        (await on.execute(delete(parts).where(parts.c.upload_id == upload_id).returning(parts.c.blob))).scalars()
    )


async def overdue(on: AsyncConnection, now: float, most: int) -> list[Upload]:
    late = (uploads.c.status == UploadStatus.PENDING.value) & (uploads.c.expires_at <= now)
    return await _some(on, late, most)


async def pending_of(on: AsyncConnection, tenant: str, subject: str | None, most: int) -> list[Upload]:
    """Of a tenant, or of one subject in it."""
    return await _some(on, (uploads.c.status == UploadStatus.PENDING.value) & _of(tenant, subject), most)


async def forget_ended(on: AsyncConnection, before: float) -> int:
    """Uploads that ended, and should have by `before`. Returns how many."""
    old = (uploads.c.status != UploadStatus.PENDING.value) & (uploads.c.expires_at < before)
    return (await on.execute(delete(uploads).where(old))).rowcount


async def forget_ended_of(on: AsyncConnection, tenant: str, subject: str | None) -> None:
    over = uploads.c.status != UploadStatus.PENDING.value
    await on.execute(delete(uploads).where(over, _of(tenant, subject)))


async def page_of(on: AsyncConnection, tenant: str, subject: str, asked: Page) -> list[Upload]:
    rows = (await on.execute(cut(select(uploads).where(_of(tenant, subject)), uploads.c.id, asked))).all()
    return [_upload(row) for row in rows]


async def add_part(on: AsyncConnection, part: Part) -> None:
    await on.execute(
        insert(parts).values(
            id=part.id, upload_id=part.upload_id, size=part.size, created_at=part.created_at, blob=part.blob
        )
    )


async def parts_of(on: AsyncConnection, upload_id: str) -> list[Part]:
    """All of them, the oldest first; the settings say how many there can be."""
    rows = (await on.execute(select(parts).where(parts.c.upload_id == upload_id).order_by(parts.c.id))).all()
    return [Part(row.id, row.upload_id, row.size, row.created_at, row.blob) for row in rows]


async def held_by(on: AsyncConnection, upload_id: str) -> Held:
    query = select(func.count(), func.coalesce(func.sum(parts.c.size), 0)).where(parts.c.upload_id == upload_id)
    count, size = (await on.execute(query)).one()
    return Held(int(count), int(size))


async def _some(on: AsyncConnection, which: ColumnElement[bool], most: int) -> list[Upload]:
    query = select(uploads).where(which).order_by(uploads.c.id).limit(most).with_for_update(skip_locked=True)
    return [_upload(row) for row in (await on.execute(query)).all()]


def _of(tenant: str, subject: str | None) -> ColumnElement[bool]:
    of = uploads.c.tenant == tenant
    return of if subject is None else of & (uploads.c.subject == subject)


def _upload(row: Row[Any]) -> Upload:
    return Upload(
        row.id, Owner(row.tenant, row.subject), row.name, Purpose(row.purpose), row.media_type, row.size, row.created_at,
        row.expires_at, UploadStatus(row.status), row.kept_s, row.file_id, tuple(row.part_ids),
    )  # fmt: skip
