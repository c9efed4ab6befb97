"""What belongs to somebody: handed out to them, or erased with them."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from fastapi.responses import StreamingResponse

from cordee.services.base.errors import documented
from cordee.services.base.leaving import HANDED_OUT, Erased, ErasureGiven, Name, handed_out, whose
from cordee.services.base.principal import Asking
from cordee.services.base.strict import Router
from cordee.services.files import leaving
from cordee.services.files.records import Owner
from cordee.services.files.routes.given import At
from cordee.services.files.rules.terms import READ

router = Router(prefix="/v1/files", tags=["leaving"], responses=documented(400, 401, 403, 413, 503))


@router.post("/erasures")
async def erase(service: At, who: Asking, given: ErasureGiven) -> Erased:
    """Erase what a tenant, or a user of it, has here; a bounded piece of it per call. For the installation itself."""
    return Erased(done=await leaving.erase(service, who, given.tenant, given.user))


@router.get("/exports", response_class=StreamingResponse, responses=HANDED_OUT)
async def export(
    service: At,
    who: Asking,
    user: Annotated[Name | None, Query(description="Whose; one's own without it.")] = None,
    content: Annotated[bool, Query(description="With the contents, in base64.")] = False,
) -> StreamingResponse:
    """All files and uploads of the caller; of another user with the scope `users.write`."""
    owner = Owner(who.tenant, whose(who, user, READ))
    await leaving.tell_export(service, owner, who.subject or who.key, content)
    return handed_out(leaving.export(service, owner, content), "files")
