"""Files in the database. Whoever asks is in every WHERE: another's file is one that is not there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.paging import Page, cut
from cordee.services.files.records import File, Owner, Purpose
from cordee.services.files.tables import files


async def add(on: AsyncConnection, file: File, request: str | None) -> None:
    await on.execute(
        insert(files).values(
            id=file.id, tenant=file.owner.tenant, subject=file.owner.subject, name=file.name, purpose=file.purpose.value,
            media_type=file.media_type, size=file.size, sha256=file.sha256, created_at=file.created_at,
            expires_at=file.expires_at, blob=file.blob, request=request,
        )
    )  # fmt: skip


async def file_of(on: AsyncConnection, owner: Owner, file_id: str, now: float) -> File | None:
    row = (await on.execute(select(files).where(_whose(owner), _in_force(now), files.c.id == file_id))).first()
    return None if row is None else _file(row)


async def asked_before(on: AsyncConnection, owner: Owner, request: str, now: float) -> File | None:
    """The file that the same request made the first time."""
    row = (await on.execute(select(files).where(_whose(owner), _in_force(now), files.c.request == request))).first()
    return None if row is None else _file(row)


async def page(on: AsyncConnection, owner: Owner, purpose: str | None, now: float, asked: Page) -> list[File]:
    """One more than the page holds, if there is one."""
    query = select(files).where(_whose(owner), _in_force(now))
    if purpose is not None:
        query = query.where(files.c.purpose == purpose)
    return [_file(row) for row in (await on.execute(cut(query, files.c.id, asked))).all()]


async def remove(on: AsyncConnection, owner: Owner, file_id: str) -> File | None:
    """What was removed; None where there was nothing."""
    row = (await on.execute(delete(files).where(_whose(owner), files.c.id == file_id).returning(*files.c))).first()
    return None if row is None else _file(row)


async def remove_expired(on: AsyncConnection, now: float, most: int) -> list[File]:
    return await _remove_some(on, files.c.expires_at <= now, most)


async def remove_all(on: AsyncConnection, tenant: str, subject: str | None, most: int) -> list[File]:
    """Of a tenant, or of one subject in it."""
    return await _remove_some(on, of_whom(tenant, subject), most)


def of_whom(tenant: str, subject: str | None) -> ColumnElement[bool]:
    of = files.c.tenant == tenant
    return of if subject is None else of & (files.c.subject == subject)


async def _remove_some(on: AsyncConnection, which: ColumnElement[bool], most: int) -> list[File]:
    chosen = select(files.c.id).where(which).order_by(files.c.id).limit(most).with_for_update(skip_locked=True)
    ids: Sequence[str] = (await on.execute(chosen)).scalars().all()
    if not ids:
        return []
    return [
        _file(row) for row in (await on.execute(delete(files).where(files.c.id.in_(ids)).returning(*files.c))).all()
    ]


def _whose(owner: Owner) -> ColumnElement[bool]:
    return (files.c.tenant == owner.tenant) & (files.c.subject == owner.subject)


def _in_force(now: float) -> ColumnElement[bool]:
    return or_(files.c.expires_at.is_(None), files.c.expires_at > now)


def _file(row: Row[Any]) -> File:
    return File(
        row.id, Owner(row.tenant, row.subject), row.name, Purpose(row.purpose), row.media_type, row.size, row.sha256,
        row.created_at, row.expires_at, row.blob,
    )  # fmt: skip
