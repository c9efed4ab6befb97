"""From an event of another service to deliveries: one for each endpoint that wants it, in the transaction that notes the event."""

from __future__ import annotations

import logging

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.inbox import Inbox
from cordee.services.base.outbox import Event
from cordee.services.webhooks.rules.words import PATTERNS, message, owner_of
from cordee.services.webhooks.service import Service
from cordee.services.webhooks.store import deliveries, endpoints

_log = logging.getLogger(__name__)


def subscribe(inbox: Inbox, service: Service) -> None:
    """What webhooks listen to."""

    async def heard(on: AsyncConnection, event: Event) -> None:
        told = message(event)
        if told is None:
            return
        for endpoint in await endpoints.who_want(on, event.tenant, owner_of(event), told.type):
            if await deliveries.count_waiting(on, endpoint.id) >= service.settings.waiting_max:
                _log.warning(
                    "endpoint %s is not told of %s: %d deliveries wait for it already", endpoint.id, told.id,
                    service.settings.waiting_max,
                )  # fmt: skip
                continue
            await deliveries.add(on, endpoint, told, service.now())
        service.awake.set()

    for pattern in PATTERNS:
        inbox.subscribe(pattern, heard)
