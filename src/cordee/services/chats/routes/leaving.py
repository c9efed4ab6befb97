"""What people take with them, and what is erased."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from fastapi.responses import StreamingResponse

from cordee.services.base.errors import documented
from cordee.services.base.leaving import HANDED_OUT, Erased, ErasureGiven, Name, handed_out, whose
from cordee.services.base.principal import SYSTEM, Asking
from cordee.services.base.strict import Router
from cordee.services.chats import leaving
from cordee.services.chats.log import Owner
from cordee.services.chats.routes.who import At
from cordee.services.chats.service import READ

USUAL = documented(400, 401, 403, 413, 503)
router = Router(prefix="/v1/chats", tags=["leaving"])


@router.get("/exports", response_class=StreamingResponse, responses=USUAL | HANDED_OUT)
async def export(
    service: At,
    asking: Asking,
    user: Annotated[Name | None, Query(description="Yourself when not given.")] = None,
) -> StreamingResponse:
    """Everything that is kept of one user or application: every event of every conversation and response, as JSON lines."""
    owner = Owner(asking.tenant, whose(asking, user, READ))
    await leaving.tell_export(service, owner, asking.key)
    return handed_out(leaving.export(service, owner), "chats")


@router.post("/erasures", responses=USUAL)
async def erase(service: At, asking: Asking, given: ErasureGiven) -> Erased:
    """Erase some of what is kept of a tenant, or of one user or application of it. For services alone."""
    asking.need(SYSTEM)
    return Erased(done=await leaving.erase(service, given.tenant, given.user))
