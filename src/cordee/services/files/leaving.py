"""All that belongs to somebody is handed out, or erased."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from cordee.services.base.paging import LIMIT_MAX, Page, taken
from cordee.services.base.principal import SYSTEM, Principal
from cordee.services.files import content, ingest
from cordee.services.files.keeping import removed
from cordee.services.files.records import File, Owner, UploadStatus
from cordee.services.files.rules.ranges import Span
from cordee.services.files.service import Service
from cordee.services.files.store import blobs, files, uploads, usage
from cordee.services.files.uploading import end_early

_encode = msgspec.json.Encoder().encode


async def erase(service: Service, who: Principal, tenant: str, subject: str | None) -> bool:
    """Erase what a tenant, or one subject in it, has here: at most `swept_max` of each kind by one call. True: nothing is left.
    Asked again it goes on where it was. Raises Problem."""
    who.need(SYSTEM)
    most = service.settings.swept_max
    async with service.database.writing() as on:
        gone = await files.remove_all(on, tenant, subject, most)
        await removed(service, on, gone, "erased")
        spare = [file.blob for file in gone]
        pending = await uploads.pending_of(on, tenant, subject, most)
        for upload in pending:
            spare += await end_early(on, upload, UploadStatus.CANCELLED)
        await uploads.forget_ended_of(on, tenant, subject)
        is_done = len(gone) < most and len(pending) < most
        if is_done and subject is None:
            await usage.forget(on, tenant)
    await ingest.remove(service, spare)
    return is_done


async def tell_export(service: Service, owner: Owner, by: str, has_content: bool) -> None:
    """Write down that somebody took the owner's files with them."""
    async with service.database.writing() as on:
        subject = owner.subject or owner.tenant
        data = {"by": by, "content": has_content}
        await service.outbox.append(on, service.now(), "archive.exported", subject, owner.tenant, data)


async def export(service: Service, owner: Owner, has_content: bool) -> AsyncGenerator[bytes, None]:
    """JSON Lines: every file and upload, each file followed by its content in pieces where that is asked for."""
    page = Page(LIMIT_MAX, None, is_descending=False)
    while True:
        async with service.database.reading() as on:
            found, has_more = taken(await files.page(on, owner, None, service.now(), page), page)
        for file in found:
            yield _line({"type": "file", "file": told(file)})
            if has_content:
                async with contextlib.aclosing(_content(service, file)) as lines:
                    async for line in lines:
                        yield line
        if not has_more:
            break
        page = Page(LIMIT_MAX, found[-1].id, is_descending=False)
    page = Page(LIMIT_MAX, None, is_descending=False)
    while True:
        async with service.database.reading() as on:
            some, has_more = taken(await uploads.page_of(on, owner.tenant, owner.subject, page), page)
        for upload in some:
            said = {"id": upload.id, "filename": upload.name, "bytes": upload.size, "status": upload.status.value}
            yield _line({"type": "upload", "upload": said})
        if not has_more:
            return
        page = Page(LIMIT_MAX, some[-1].id, is_descending=False)


def told(file: File) -> dict[str, Any]:
    return {
        "id": file.id, "filename": file.name, "purpose": file.purpose.value, "media_type": file.media_type, "bytes": file.size,
        "sha256": file.sha256, "created_at": int(file.created_at),
        "expires_at": None if file.expires_at is None else int(file.expires_at),
    }  # fmt: skip


async def _content(service: Service, file: File) -> AsyncGenerator[bytes, None]:
    async with service.database.reading() as on:
        blob = await blobs.blob_of(on, file.blob)
    if blob is None:
        return  # deleted since the page was read
    async with contextlib.aclosing(content.read(service, blob, Span(0, blob.size))) as pieces:
        number = 0
        async for piece in pieces:
            data = base64.b64encode(piece).decode()
            yield _line({"type": "file.content", "file_id": file.id, "number": number, "base64": data})
            number += 1


def _line(said: dict[str, Any]) -> bytes:
    return _encode(said) + b"\n"
