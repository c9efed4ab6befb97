"""Uploads: a large file comes in parts, in any order and several at once, and becomes a file when all are there.

Each part is a content of its own, whole and durable when it is answered. Completing reads them in the order that the client names,
through the same door as any other content, so the file is hashed, looked at and scanned as one.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.errors import Problem, conflict, not_found
from cordee.services.base.identifiers import new
from cordee.services.base.principal import Principal
from cordee.services.files import content, ingest
from cordee.services.files.arriving import Told
from cordee.services.files.ingest import Wanted, taking
from cordee.services.files.keeping import record_file
from cordee.services.files.records import Blob, File, Part, Upload, UploadStatus
from cordee.services.files.rules.kinds import settled
from cordee.services.files.rules.names import cleaned
from cordee.services.files.rules.quota import within
from cordee.services.files.rules.ranges import Span
from cordee.services.files.rules.terms import READ, WRITE, owner_of
from cordee.services.files.service import Service
from cordee.services.files.sniff import found
from cordee.services.files.storage import MissingError
from cordee.services.files.store import blobs, files, uploads, usage

DATA, PART_IDS, MD5 = "data", "part_ids", "md5"
_RESENT = 2  # parts may come to so many times the announced size: a part whose answer was lost is sent again


async def begin(service: Service, who: Principal, told: Told, size: int) -> Upload:
    """Room for it is taken at once, so that completing cannot fail for want of it. Raises Problem."""
    who.need(WRITE)
    settings = service.settings
    if size > settings.file_bytes_max:
        raise Problem(400, f"bytes: a file holds {settings.file_bytes_max} at most.", "bytes", "file_too_large")
    await service.storage.need_room()
    now = service.now()
    upload = Upload(
        new("upload"), owner_of(who), cleaned(told.name), told.purpose, told.media_type, size, now, now + settings.upload_s,
        UploadStatus.PENDING, told.kept_s,
    )  # fmt: skip
    async with service.database.writing() as on:
        used = await usage.add(on, who.tenant, size, 1)
        within(settings, used.bytes, used.files, "bytes")
        await uploads.add(on, upload)
    return upload


async def upload_seen(service: Service, who: Principal, upload_id: str) -> tuple[Upload, File | None]:
    """With its file, if it has become one that is still there. Raises Problem."""
    who.need(READ)
    async with service.database.reading() as on:
        upload = await uploads.upload_of(on, owner_of(who), upload_id)
        if upload is None:
            raise not_found("upload", upload_id)
        if upload.file_id is None:
            return _as_of(upload, service.now()), None
        return upload, await files.file_of(on, upload.owner, upload.file_id, service.now())


async def parts_seen(service: Service, who: Principal, upload_id: str) -> list[Part]:
    """What has arrived of it, the oldest first. Raises Problem."""
    await upload_seen(service, who, upload_id)
    async with service.database.reading() as on:
        return await uploads.parts_of(on, upload_id)


async def add_part(service: Service, who: Principal, upload_id: str, data: AsyncIterator[bytes]) -> Part:
    """Raises Problem."""
    most = service.settings.part_bytes_max
    too_large = Problem(413, f"{DATA}: a part holds {most} bytes at most; send more parts.", DATA, "part_too_large")
    wanted = Wanted(DATA, most, too_large, is_scanned=False)
    async with taking(service, who.tenant, data, wanted) as taken:
        if not taken.size:
            raise Problem(400, f"{DATA}: it is empty.", DATA, "empty_part")
        async with service.database.writing() as on:
            upload = _pending(
                await uploads.upload_of(on, owner_of(who), upload_id, is_held=True), upload_id, service.now()
            )
            held = await uploads.held_by(on, upload_id)
            if held.size + taken.size > max(upload.size, 1) * _RESENT or held.count >= service.settings.parts_max:
                raise Problem(
                    400, f"{DATA}: this upload was announced with {upload.size} bytes, and {held.count} parts with {held.size} "
                    f"bytes are here already; complete it, or cancel it and begin anew.", DATA, "upload_full",
                )  # fmt: skip
            part = Part(new("part"), upload_id, taken.size, service.now(), taken.name)
            await ingest.keep(on, taken)
            await uploads.add_part(on, part)
    return part


async def may_add(service: Service, who: Principal, upload_id: str) -> None:
    """Refuse a part before its bytes are read. Raises Problem."""
    who.need(WRITE)
    await service.storage.need_room()
    async with service.database.reading() as on:
        _pending(await uploads.upload_of(on, owner_of(who), upload_id), upload_id, service.now())


async def complete(
    service: Service, who: Principal, upload_id: str, part_ids: Sequence[str], md5: str | None
) -> tuple[Upload, File | None]:
    """Make a file of these parts, in this order. The same once more finds the file that is there. Raises Problem."""
    who.need(WRITE)
    ids = tuple(part_ids)
    done = await _done(service, who, upload_id, ids)
    if done is not None:
        return done
    try:
        return await _put_together(service, who, upload_id, ids, md5)
    except Problem:
        # Somebody else may have completed it with the same parts meanwhile: a client that asked twice.
        done = await _done(service, who, upload_id, ids)
        if done is None:
            raise
        return done


async def _put_together(
    service: Service, who: Principal, upload_id: str, ids: tuple[str, ...], md5: str | None
) -> tuple[Upload, File]:
    upload, chosen = await _chosen(service, who, upload_id, ids)
    told = Told(upload.name, upload.purpose, upload.media_type, upload.kept_s)
    await service.storage.need_room()

    def look(head: bytes) -> None:
        settled(told.purpose, told.media_type, head, found(head), PART_IDS)

    too_large = Problem(400, f"{PART_IDS}: they hold more than was announced.", PART_IDS, "wrong_size")
    wanted = Wanted(PART_IDS, upload.size, too_large, look, has_md5=md5 is not None)
    async with (
        contextlib.aclosing(_joined(service, chosen)) as joined,
        taking(service, who.tenant, joined, wanted) as taken,
    ):
        if md5 is not None and md5.lower() != taken.md5:
            raise Problem(400, f"{MD5}: the parts have {taken.md5}; a part is wrong or in the wrong place.", MD5, MD5)
        media_type = settled(told.purpose, told.media_type, taken.head, found(taken.head), PART_IDS)
        async with service.database.writing() as on:
            upload = _pending(await uploads.upload_of(on, owner_of(who), upload_id, is_held=True), upload_id, 0.0)
            await ingest.keep(on, taken)
            file = await record_file(service, on, upload.owner, told, taken, media_type, None)
            spare = await uploads.end(on, upload_id, UploadStatus.COMPLETED, file.id, ids)
            await blobs.let_go(on, spare)
    await ingest.remove(service, spare)
    return dataclasses.replace(upload, status=UploadStatus.COMPLETED, file_id=file.id, part_ids=ids), file


async def cancel(service: Service, who: Principal, upload_id: str) -> Upload:
    """Its parts are deleted. Cancelling what is cancelled changes nothing. Raises Problem."""
    who.need(WRITE)
    async with service.database.writing() as on:
        upload = await uploads.upload_of(on, owner_of(who), upload_id, is_held=True)
        if upload is not None and upload.status is UploadStatus.CANCELLED:
            return upload
        upload = _pending(upload, upload_id, service.now())
        spare = await end_early(on, upload, UploadStatus.CANCELLED)
    await ingest.remove(service, spare)
    return dataclasses.replace(upload, status=UploadStatus.CANCELLED)


async def end_early(on: AsyncConnection, upload: Upload, status: UploadStatus) -> list[str]:
    """It becomes no file. Returns the names of its parts' contents, which are nobody's now."""
    spare = await uploads.end(on, upload.id, status)
    await blobs.let_go(on, spare)
    await usage.add(on, upload.owner.tenant, -upload.size, -1)
    return spare


async def _done(
    service: Service, who: Principal, upload_id: str, ids: tuple[str, ...]
) -> tuple[Upload, File | None] | None:
    """What it has become, if it was completed with these parts before. Raises Problem (404)."""
    async with service.database.reading() as on:
        upload = await uploads.upload_of(on, owner_of(who), upload_id)
        if upload is None:
            raise not_found("upload", upload_id)
        if upload.status is not UploadStatus.COMPLETED or upload.part_ids != ids or upload.file_id is None:
            return None
        return upload, await files.file_of(on, upload.owner, upload.file_id, service.now())


async def _chosen(service: Service, who: Principal, upload_id: str, ids: tuple[str, ...]) -> tuple[Upload, list[Blob]]:
    """The contents of these parts, in this order. Raises Problem."""
    async with service.database.reading() as on:
        upload = _pending(await uploads.upload_of(on, owner_of(who), upload_id), upload_id, service.now())
        here = {part.id: part for part in await uploads.parts_of(on, upload_id)}
        for part_id in ids:
            if part_id not in here:
                raise Problem(400, f"{PART_IDS}: this upload has no part {part_id}.", PART_IDS, "no_such_part")
        if len(set(ids)) != len(ids):
            raise Problem(400, f"{PART_IDS}: a part is named twice.", PART_IDS, "part_twice")
        size = sum(here[part_id].size for part_id in ids)
        if size != upload.size:
            raise Problem(
                400,
                f"{PART_IDS}: they hold {size} bytes; the upload was announced with {upload.size}.",
                PART_IDS,
                "wrong_size",
            )
        found_blobs = await blobs.blobs_of(on, [here[part_id].blob for part_id in ids])
    if len(found_blobs) != len(ids):  # gone since the upload was looked at
        raise _ended()
    return upload, found_blobs


async def _joined(service: Service, chosen: Sequence[Blob]) -> AsyncGenerator[bytes, None]:
    try:
        for blob in chosen:
            async with contextlib.aclosing(content.read(service, blob, Span(0, blob.size))) as pieces:
                async for piece in pieces:
                    yield piece
    except MissingError as error:
        raise _ended() from error


def _pending(upload: Upload | None, upload_id: str, now: float) -> Upload:
    """Raises Problem."""
    if upload is None:
        raise not_found("upload", upload_id)
    if _as_of(upload, now).status is not UploadStatus.PENDING:
        raise _over(_as_of(upload, now))
    return upload


def _as_of(upload: Upload, now: float) -> Upload:
    """It is expired from the moment on, whether or not a sweep has been there."""
    if upload.status is UploadStatus.PENDING and upload.expires_at <= now:
        return dataclasses.replace(upload, status=UploadStatus.EXPIRED)
    return upload


def _ended() -> Problem:
    return conflict("This upload has been ended while its parts were being put together.", PART_IDS)


def _over(upload: Upload) -> Problem:
    return conflict(f"Upload {upload.id} is {upload.status.value}; begin a new one.", "upload_id")
