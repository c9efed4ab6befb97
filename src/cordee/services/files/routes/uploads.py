"""Uploads: OpenAI's Uploads API, and what has arrived of one."""

from __future__ import annotations

import contextlib

from fastapi import Request

from cordee.services.base.errors import Problem, documented
from cordee.services.base.principal import Asking
from cordee.services.base.strict import Router
from cordee.services.files import uploading
from cordee.services.files.arriving import Told
from cordee.services.files.routes.given import PART_FORM, At, PathId, form_of
from cordee.services.files.routes.shapes import (
    PartShape,
    PartsShape,
    UploadCompleted,
    UploadGiven,
    UploadShape,
    part_shape,
    upload_shape,
)
from cordee.services.files.rules import terms
from cordee.services.files.rules.kinds import said
from cordee.services.files.uploading import DATA

router = Router(prefix="/v1/uploads", tags=["uploads"], responses=documented(400, 401, 403, 404, 409, 413, 503, 507))


@router.post("")
async def begin(service: At, who: Asking, given: UploadGiven) -> UploadShape:
    """Announce a file that will come in parts, within an hour."""
    purpose = terms.purpose_of(who, given.purpose)
    after = given.expires_after
    kept_s = terms.kept_s_of(
        service.settings, purpose, None if after is None else after.anchor, None if after is None else after.seconds
    )
    told = Told(given.filename, purpose, said(given.mime_type), kept_s)
    return upload_shape(await uploading.begin(service, who, told, given.bytes))


@router.get("/{upload_id}")
async def show_upload(service: At, who: Asking, upload_id: PathId) -> UploadShape:
    return upload_shape(*await uploading.upload_seen(service, who, upload_id))


@router.get("/{upload_id}/parts")
async def list_parts(service: At, who: Asking, upload_id: PathId) -> PartsShape:
    """What has arrived, the oldest first: a client that was interrupted sends the rest."""
    return PartsShape(data=[part_shape(part) for part in await uploading.parts_seen(service, who, upload_id)])


@router.post("/{upload_id}/parts", openapi_extra=PART_FORM)
async def add_part(request: Request, service: At, who: Asking, upload_id: PathId) -> PartShape:
    """A part of the file; several may come at once."""
    await uploading.may_add(service, who, upload_id)
    with service.transfer():
        form, part = form_of(request), None
        async for field in form.fields():
            if field.name != DATA or part is not None:
                raise Problem(400, f"There is no such field here; a part has one field, {DATA}.", field.name[:128])
            async with contextlib.aclosing(form.content()) as data:
                part = await uploading.add_part(service, who, upload_id, data)
        if part is None:
            raise Problem(400, f"{DATA}: it is required.", DATA, "missing")
        return part_shape(part)


@router.post("/{upload_id}/complete")
async def complete(service: At, who: Asking, upload_id: PathId, given: UploadCompleted) -> UploadShape:
    """Make a file of these parts. Asked again, it answers with the same file."""
    with service.transfer():
        return upload_shape(*await uploading.complete(service, who, upload_id, given.part_ids, given.md5))


@router.post("/{upload_id}/cancel")
async def cancel(service: At, who: Asking, upload_id: PathId) -> UploadShape:
    """It becomes no file, and its parts are deleted."""
    return upload_shape(await uploading.cancel(service, who, upload_id))
