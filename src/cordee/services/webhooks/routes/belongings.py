"""All that belongs to one: written out for them, or erased."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import Query
from fastapi.responses import StreamingResponse

from cordee.services.base.errors import documented
from cordee.services.base.leaving import HANDED_OUT, Erased, ErasureGiven, Name, handed_out, whose
from cordee.services.base.paging import LIMIT_MAX, Page
from cordee.services.base.principal import SYSTEM, Asking
from cordee.services.base.strict import Router
from cordee.services.webhooks.records import Owner
from cordee.services.webhooks.routes.endpoints import READ, Serving
from cordee.services.webhooks.routes.shapes import shown, shown_delivery
from cordee.services.webhooks.service import Service
from cordee.services.webhooks.store import deliveries, endpoints

PIECE = 20  # endpoints erased by one call, with all their deliveries
router = Router(prefix="/v1/webhooks", responses=documented(400, 401, 403, 413, 503), tags=["webhooks"])


@router.post("/erasures")
async def erase(asked: ErasureGiven, asking: Asking, service: Serving) -> Erased:
    """Erase some of it, for the installation itself."""
    asking.need(SYSTEM)
    async with service.database.writing() as on:
        return Erased(done=await endpoints.erase(on, asked.tenant, asked.user, PIECE) < PIECE)


@router.get("/exports", response_class=StreamingResponse, responses=HANDED_OUT)
async def export(
    asking: Asking, service: Serving, user: Annotated[Name | None, Query(description="Oneself, if left out.")] = None
) -> StreamingResponse:
    """One line of JSON for each endpoint and each delivery."""
    return handed_out(_lines(service, Owner(asking.tenant, whose(asking, user, READ))), "webhooks")


async def _lines(service: Service, owner: Owner) -> AsyncGenerator[bytes]:
    after: str | None = None
    while True:
        async with service.database.reading() as on:
            found = await endpoints.page(on, owner, Page(LIMIT_MAX, after, is_descending=False))
        for one in found[:LIMIT_MAX]:
            yield shown(one).model_dump_json().encode() + b"\n"
            after, last = one.id, ""
            while True:
                async with service.database.reading() as on:
                    some = await deliveries.all_of(on, (one.id,), last, LIMIT_MAX)
                for delivery in some:
                    yield shown_delivery(delivery).model_dump_json().encode() + b"\n"
                    last = delivery.id
                if len(some) < LIMIT_MAX:
                    break
        if len(found) <= LIMIT_MAX:
            return
