"""What became of what was sent: seen, and sent again."""

from __future__ import annotations

from cordee.services.base.errors import conflict, documented, not_found
from cordee.services.base.paging import Asked, Listing, taken
from cordee.services.base.principal import Asking
from cordee.services.base.strict import Router
from cordee.services.webhooks.routes.endpoints import READ, WRITE, Serving, own, owner_of
from cordee.services.webhooks.routes.shapes import DeliveryId, EndpointId, ShownDelivery, shown_delivery
from cordee.services.webhooks.store import deliveries

KIND = "delivery"
router = Router(
    prefix="/v1/webhook_endpoints/{id}/deliveries", responses=documented(400, 401, 403, 404, 409, 503), tags=["webhooks"]
)  # fmt: skip


@router.get("")
async def page(id: EndpointId, asked: Asked, asking: Asking, service: Serving) -> Listing[ShownDelivery]:
    """Deliveries to an endpoint: those that wait, and for some days those that have ended."""
    one = await own(service, owner_of(asking, READ), id)
    async with service.database.reading() as on:
        found, has_more = taken([shown_delivery(row) for row in await deliveries.page(on, one.id, asked)], asked)
    return Listing[ShownDelivery](
        data=found, first_id=found[0].id if found else None, last_id=found[-1].id if found else None, has_more=has_more
    )


@router.post("/{delivery}/redeliver")
async def redeliver(id: EndpointId, delivery: DeliveryId, asking: Asking, service: Serving) -> ShownDelivery:
    """Send one that has ended again, with the same id and anew with all its tries."""
    one = await own(service, owner_of(asking, WRITE), id)
    if one.disabled_at is not None:
        raise conflict(f"The endpoint {id} is switched off; change it, or test it with success, first.")
    async with service.database.writing() as on:
        if await deliveries.of(on, one.id, delivery) is None:
            raise not_found(KIND, delivery)
        if not await deliveries.again(on, one.id, delivery, service.now()):
            raise conflict(f"The delivery {delivery} waits to be sent already.")
        found = await deliveries.of(on, one.id, delivery)
    assert found is not None, "it was there a statement ago, in the same transaction"
    service.awake.set()
    return shown_delivery(found)
