"""OpenAI's Batch API."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from fastapi import Query
from fastapi.responses import StreamingResponse

from cordee.services.base.errors import documented
from cordee.services.base.leaving import HANDED_OUT, Erased, ErasureGiven, Name, handed_out, whose
from cordee.services.base.paging import Asked, Listing
from cordee.services.base.principal import Asking
from cordee.services.base.strict import Router
from cordee.services.batches import keeping, leaving
from cordee.services.batches.keeping import READ, Wanted
from cordee.services.batches.routes import shapes
from cordee.services.batches.routes.at import At, PathId, Works, listing

router = Router(
    prefix="/v1/batches", tags=["batches"], responses=documented(400, 401, 403, 404, 409, 413, 429, 503)
)  # fmt: skip


@router.post("")
async def create(works: At, who: Asking, given: shapes.BatchGiven) -> shapes.BatchShape:
    """Run the requests of an uploaded file from idle capacity."""
    metadata = None if given.metadata is None else tuple(given.metadata.items())
    lasts_s = None if given.output_expires_after is None else given.output_expires_after.seconds
    wanted = Wanted(given.input_file_id, given.meant, metadata, lasts_s)
    return shapes.batch_shape(await keeping.create(works.service, who, wanted))


@router.get("")
async def list_batches(works: At, who: Asking, page: Asked) -> Listing[shapes.BatchShape]:
    """One's own, the newest first."""
    found = await keeping.page(works.service, who, page)
    return listing([shapes.batch_shape(one) for one in found], [one.id for one in found], page)


@router.post("/erasures")
async def erase(works: At, who: Asking, given: ErasureGiven) -> Erased:
    """Erase what a tenant, or a user of it, has here; a bounded piece of it per call. For the installation itself."""
    return Erased(done=await leaving.erase(works.service, who, given.tenant, given.user))


@router.get("/exports", response_class=StreamingResponse, responses=HANDED_OUT)
async def export(
    works: At,
    who: Asking,
    user: Annotated[Name | None, Query(description="One's own without it.")] = None,
) -> StreamingResponse:
    """All batches of the caller; of another user with the scope `users.write`."""
    return handed_out(_lines(works, who.tenant, whose(who, user, READ)), "batches")


@router.get("/{batch_id}")
async def show(works: At, who: Asking, batch_id: PathId) -> shapes.BatchShape:
    return shapes.batch_shape(await keeping.seen(works.service, who, batch_id))


@router.post("/{batch_id}/cancel")
async def cancel(works: At, who: Asking, batch_id: PathId) -> shapes.BatchShape:
    """End it early; what was answered until then is in its files."""
    return shapes.batch_shape(await keeping.cancel(works.service, who, batch_id))


async def _lines(works: Works, tenant: str, subject: str) -> AsyncGenerator[bytes, None]:
    async with aclosing(leaving.export(works.service, tenant, subject)) as found:
        async for batch in found:
            yield shapes.batch_shape(batch).model_dump_json().encode() + b"\n"
