"""Long work: what runs, where it is, and how to end it."""

from __future__ import annotations

from typing import Annotated, assert_never

from fastapi import Body

from cordee.services.base.errors import documented
from cordee.services.base.paging import Asked, Listing
from cordee.services.base.principal import Asking
from cordee.services.base.strict import Router
from cordee.services.batches import working
from cordee.services.batches.routes import shapes
from cordee.services.batches.routes.at import At, PathId, listing

router = Router(prefix="/v1/jobs", tags=["jobs"], responses=documented(400, 401, 403, 404, 409, 413, 429, 503))


@router.post("")
async def add(works: At, who: Asking, given: Annotated[shapes.JobGiven, Body()]) -> shapes.JobShape:
    """Erase a tenant, or a user, from all services."""
    match given:
        case shapes.TenantErasure():
            job = await working.erase_tenant(works.service, who, given.tenant)
        case shapes.UserErasure():
            job = await working.erase_user(works.service, who, given.user, given.tenant)
        case _:
            assert_never(given)
    return shapes.job_shape(job, works.sagas)


@router.get("")
async def list_jobs(works: At, who: Asking, page: Asked) -> Listing[shapes.JobShape]:
    """One's own; everybody's for operators."""
    found = await working.page(works.service, who, page)
    return listing([shapes.job_shape(one, works.sagas) for one in found], [one.id for one in found], page)


@router.get("/{job_id}")
async def show(works: At, who: Asking, job_id: PathId) -> shapes.JobShape:
    return shapes.job_shape(await working.seen(works.service, who, job_id), works.sagas)


@router.post("/{job_id}/cancel")
async def cancel(works: At, who: Asking, job_id: PathId) -> shapes.JobShape:
    """Undo what it has done, if all of it can be undone. A batch ends early instead."""
    return shapes.job_shape(await working.cancel(works.service, who, job_id, works.sagas), works.sagas)
