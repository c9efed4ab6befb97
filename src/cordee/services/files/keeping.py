"""Files are made, seen, given back and deleted."""

from __future__ import annotations

import hashlib

import msgspec
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.errors import Problem, conflict, not_found
from cordee.services.base.identifiers import new
from cordee.services.base.paging import Page
from cordee.services.base.principal import Principal
from cordee.services.files import ingest
from cordee.services.files.arriving import PARAM, Arriving, Told
from cordee.services.files.ingest import Taken, Wanted
from cordee.services.files.records import Blob, File, Owner
from cordee.services.files.rules.kinds import settled
from cordee.services.files.rules.names import cleaned
from cordee.services.files.rules.quota import over_bytes, within
from cordee.services.files.rules.terms import READ, WRITE, owner_of
from cordee.services.files.service import Service
from cordee.services.files.sniff import found
from cordee.services.files.store import blobs, files, usage

_encode = msgspec.json.Encoder().encode


async def made_before(service: Service, who: Principal, key: str | None) -> File | None:
    """The file that the same request made the first time, by its Idempotency-Key."""
    who.need(WRITE)
    request = request_digest(who, key)
    if request is None:
        return None
    async with service.database.reading() as on:
        return await files.asked_before(on, owner_of(who), request, service.now())


def request_digest(who: Principal, key: str | None) -> str | None:
    """By which a repeat of a request is known; None where it has no key."""
    return None if not key else hashlib.sha256(_encode([who.tenant, who.subject, key])).hexdigest()


async def wanted_of(service: Service, who: Principal, arriving: Arriving) -> Wanted:
    """What may come in: no more than one file may hold, or the tenant has room for. Raises Problem."""
    await service.storage.need_room()
    settings = service.settings
    async with service.database.reading() as on:
        used = await usage.used_by(on, who.tenant)
    within(settings, used.bytes, used.files + 1, PARAM)
    left = settings.tenant_bytes_max - used.bytes if settings.tenant_bytes_max else settings.file_bytes_max
    if left < settings.file_bytes_max:
        return Wanted(PARAM, left, over_bytes(settings, PARAM), arriving.look)
    too_large = Problem(
        413,
        f"{PARAM}: it is larger than {settings.file_bytes_max} bytes, the most one file can hold.",
        PARAM,
        "file_too_large",
    )
    return Wanted(PARAM, settings.file_bytes_max, too_large, arriving.look)


async def keep_file(service: Service, who: Principal, told: Told, taken: Taken, request: str | None) -> File:
    """The file of what has come in. A repeat of a request that was quicker wins. Raises Problem."""
    media_type = settled(told.purpose, told.media_type, taken.head, found(taken.head), PARAM)
    owner = owner_of(who)
    try:
        async with service.database.writing() as on:
            await ingest.keep(on, taken)
            used = await usage.add(on, owner.tenant, taken.size, 1)
            within(service.settings, used.bytes, used.files, PARAM)
            return await record_file(service, on, owner, told, taken, media_type, request)
    except IntegrityError:
        async with service.database.reading() as on:
            earlier = None if request is None else await files.asked_before(on, owner, request, service.now())
        await ingest.drop(service, taken.name)
        if earlier is None:
            raise conflict("A request with this Idempotency-Key has just been carried out; ask again.") from None
        return earlier


async def record_file(
    service: Service, on: AsyncConnection, owner: Owner, told: Told, taken: Taken, media_type: str, request: str | None
) -> File:
    """The entry of a file, and the event that tells of it, in the transaction that keeps its content."""
    now = service.now()
    expires_at = None if told.kept_s is None else now + told.kept_s
    file = File(
        new("file"),
        owner,
        cleaned(told.name),
        told.purpose,
        media_type,
        taken.size,
        taken.sha256,
        now,
        expires_at,
        taken.name,
    )
    await files.add(on, file, request)
    data = {"purpose": file.purpose.value, "bytes": file.size, "sha256": file.sha256, "owner": owner.subject}
    await service.outbox.append(on, now, "file.created", file.id, owner.tenant, data)
    return file


async def file_seen(service: Service, who: Principal, file_id: str) -> File:
    """Raises Problem."""
    who.need(READ)
    async with service.database.reading() as on:
        file = await files.file_of(on, owner_of(who), file_id, service.now())
    if file is None:
        raise not_found("file", file_id)
    return file


async def files_seen(service: Service, who: Principal, purpose: str | None, page: Page) -> list[File]:
    """One more than the page holds, if there is one."""
    who.need(READ)
    async with service.database.reading() as on:
        return await files.page(on, owner_of(who), purpose, service.now(), page)


async def content_of(service: Service, who: Principal, file_id: str) -> tuple[File, Blob]:
    """The file and where its bytes are. Raises Problem."""
    file = await file_seen(service, who, file_id)
    async with service.database.reading() as on:
        blob = await blobs.blob_of(on, file.blob)
    if blob is None:
        raise not_found("file", file_id)  # deleted in between
    return file, blob


async def remove_file(service: Service, who: Principal, file_id: str) -> None:
    """With its bytes. Raises Problem."""
    who.need(WRITE)
    async with service.database.writing() as on:
        file = await files.remove(on, owner_of(who), file_id)
        if file is None:
            raise not_found("file", file_id)
        await removed(service, on, [file], "deleted")
    await ingest.remove(service, [file.blob])


async def removed(service: Service, on: AsyncConnection, gone: list[File], why: str) -> None:
    """What follows from these entries having been deleted in this transaction: their contents are nobody's, and it is told."""
    await blobs.let_go(on, [file.blob for file in gone])
    for file in gone:
        await usage.add(on, file.owner.tenant, -file.size, -1)
        data = {"purpose": file.purpose.value, "bytes": file.size, "why": why}
        await service.outbox.append(on, service.now(), "file.deleted", file.id, file.owner.tenant, data)
