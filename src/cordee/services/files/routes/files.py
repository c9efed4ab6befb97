"""Files: OpenAI's Files API."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse

from cordee.services.base.errors import Problem, answer, documented
from cordee.services.base.paging import Listing, taken
from cordee.services.base.principal import Asking, Principal
from cordee.services.base.strict import Router
from cordee.services.files import content, keeping
from cordee.services.files.arriving import PARAM, Arriving
from cordee.services.files.form import Field, Form
from cordee.services.files.ingest import taking
from cordee.services.files.records import File
from cordee.services.files.routes.given import (
    FILE_FORM,
    REQUEST_KEY,
    REQUEST_KEY_CHARACTERS_MAX,
    AskedPage,
    At,
    PathId,
    form_of,
)
from cordee.services.files.routes.shapes import FileDeleted, FileShape, PurposeName, file_shape
from cordee.services.files.rules import ranges
from cordee.services.files.rules.kinds import said
from cordee.services.files.rules.names import disposition
from cordee.services.files.rules.ranges import Span
from cordee.services.files.service import Service

router = Router(prefix="/v1/files", tags=["files"], responses=documented(400, 401, 403, 404, 409, 413, 503, 507))


@router.post("", openapi_extra=FILE_FORM)
async def add_file(request: Request, service: At, who: Asking) -> FileShape:
    """Keep a file. With an `Idempotency-Key` a repeat answers with the file that the first request made."""
    key = request.headers.get(REQUEST_KEY)
    if key is not None and len(key) > REQUEST_KEY_CHARACTERS_MAX:
        raise Problem(
            400, f"Idempotency-Key: it has {REQUEST_KEY_CHARACTERS_MAX} characters at most.", "Idempotency-Key"
        )
    before = await keeping.made_before(service, who, key)
    if before is not None:
        return file_shape(before)
    with service.transfer():
        return file_shape(await _arrived(service, who, form_of(request), keeping.request_digest(who, key)))


@router.get("")
async def list_files(
    service: At, who: Asking, page: AskedPage, purpose: Annotated[PurposeName | None, Query()] = None
) -> Listing[FileShape]:
    """One's own files."""
    found, has_more = taken(await keeping.files_seen(service, who, purpose, page), page)
    shapes = [file_shape(file) for file in found]
    first, last = (shapes[0].id, shapes[-1].id) if shapes else (None, None)
    return Listing[FileShape](data=shapes, first_id=first, last_id=last, has_more=has_more)


@router.get("/{file_id}")
async def show_file(service: At, who: Asking, file_id: PathId) -> FileShape:
    return file_shape(await keeping.file_seen(service, who, file_id))


@router.delete("/{file_id}")
async def remove_file(service: At, who: Asking, file_id: PathId) -> FileDeleted:
    """With its content."""
    await keeping.remove_file(service, who, file_id)
    return FileDeleted(id=file_id)


@router.head("/{file_id}/content", include_in_schema=False)
@router.get(
    "/{file_id}/content",
    response_class=StreamingResponse,
    responses={
        200: {"description": "All of it.", "content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}},
        206: {"description": "The range that was asked for.", "content": {"*/*": {}}},
        304: {"description": "The content that the client has (`If-None-Match`) is the file's."},
        **documented(416),
    },
)  # fmt: skip
async def show_content(request: Request, service: At, who: Asking, file_id: PathId) -> Response:
    """The bytes, or one range of them. Always to be saved, never to be shown by a browser."""
    file, blob = await keeping.content_of(service, who, file_id)
    headers = _headers(file)
    if ranges.matches(request.headers.get("if-none-match"), headers["etag"]):
        return Response(status_code=304, headers=headers)
    if_range = request.headers.get("if-range")
    try:
        asked = request.headers.get("range") if if_range in (None, headers["etag"]) else None
        span = ranges.asked(asked, file.size)
    except ValueError:
        refused = answer(
            416, f"Range: the file has {file.size} bytes, and this range none of them.", "Range", "no_such_range"
        )
        refused.headers["content-range"] = f"bytes */{file.size}"
        return refused
    shown = Span(0, file.size) if span is None else span
    if span is not None:
        headers["content-range"] = f"bytes {span.start}-{span.stop - 1}/{file.size}"
    headers["content-length"] = str(shown.stop - shown.start)
    status = 200 if span is None else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=file.media_type)
    pieces = content.read(service, blob, shown)
    # The first piece comes before the head is sent: a content that cannot be read is an error, not an empty success.
    first = await anext(pieces, b"")
    return StreamingResponse(_all(first, pieces), status, headers, file.media_type)


async def _arrived(service: Service, who: Principal, form: Form, request: str | None) -> File:
    """The file of a form, whose fields come in any order."""
    arriving = Arriving(who, service.settings)
    async with contextlib.AsyncExitStack() as stack:
        came = None
        async for field in form.fields():
            if field.name != PARAM:
                await _noted(arriving, field, form)
                continue
            if came is not None:
                raise Problem(400, f"{PARAM}: there are two of them; send one.", PARAM, "file_twice")
            if arriving.purpose is not None:
                arriving.told()  # refused before its bytes are read
            arriving.filename, arriving.media_type = field.filename, said(field.media_type)
            wanted = await keeping.wanted_of(service, who, arriving)
            bytes_of = await stack.enter_async_context(contextlib.aclosing(form.content()))
            came = await stack.enter_async_context(taking(service, who.tenant, bytes_of, wanted))
        if came is None:
            raise Problem(400, f"{PARAM}: it is required.", PARAM, "missing")
        return await keeping.keep_file(service, who, arriving.told(), came, request)


async def _noted(arriving: Arriving, field: Field, form: Form) -> None:
    text = await form.text(field.name)
    if field.name == "purpose":
        arriving.purpose = text
    elif field.name == "expires_after[anchor]":
        arriving.anchor = text
    elif field.name == "expires_after[seconds]":
        if not (text.isascii() and text.isdigit() and len(text) < 16):
            raise Problem(400, f"{field.name}: it is a number of seconds.", "expires_after.seconds", "invalid_seconds")
        arriving.seconds = int(text)
    else:
        raise Problem(400, "There is no such field here; a file has file, purpose and expires_after.", field.name[:128])


def _headers(file: File) -> dict[str, str]:
    return {
        "etag": f'"{file.sha256}"',
        "accept-ranges": "bytes",
        "content-disposition": disposition(file.name),
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "cache-control": "private, no-cache",
    }


async def _all(first: bytes, pieces: AsyncGenerator[bytes, None]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(pieces):
        yield first
        async for piece in pieces:
            yield piece
