"""Erasing all that belongs to somebody, for the installation; and having it, for them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query
from fastapi.responses import StreamingResponse

from cordee.services.accounts import erasure
from cordee.services.accounts.routes.feed import system
from cordee.services.accounts.routes.who import At, Who
from cordee.services.base.errors import documented
from cordee.services.base.identifiers import PATTERN
from cordee.services.base.leaving import HANDED_OUT, Erased, ErasureGiven, handed_out
from cordee.services.base.strict import Router

router = Router(prefix="/v1/accounts", tags=["belongings"], responses=documented(400, 401, 403, 404, 409, 413, 503))


@router.post("/erasures", dependencies=[Depends(system)], include_in_schema=False)
async def erase(service: At, given: ErasureGiven) -> Erased:
    """A piece of it; to be asked again until it is done. Of tenants of the key file accounts know nothing."""
    if given.user is not None:
        return Erased(done=await erasure.erase_user(service, given.tenant, given.user))
    return Erased(done=await erasure.erase_tenant(service, given.tenant))


@router.get("/exports", response_class=StreamingResponse, responses=HANDED_OUT)
async def export(
    service: At, who: Who, user: Annotated[str, Query(pattern=PATTERN, description="Whose.")]
) -> StreamingResponse:
    """All that accounts hold of a user: oneself, or with users.write somebody of the tenant."""
    return handed_out(await erasure.export(service, who, user), "accounts")
