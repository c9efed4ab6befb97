"""What all that webhooks do is done with: one of each per process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.config.sections.services import Webhooks
from cordee.services.base.database import Database
from cordee.services.base.outbox import Outbox
from cordee.services.base.seal import Seal
from cordee.services.webhooks.records import Endpoint
from cordee.services.webhooks.rules.target import Reach
from cordee.services.webhooks.sending import Sender


@dataclass(frozen=True, slots=True)
class Service:
    """The parts. `awake`: says that there is something to send; `now`: seconds of the epoch."""

    settings: Webhooks
    database: Database
    outbox: Outbox
    seal: Seal
    reach: Reach
    sender: Sender
    now: Callable[[], float]
    awake: asyncio.Event = field(default_factory=asyncio.Event)

    async def tell(self, on: AsyncConnection, what: str, endpoint: Endpoint, data: Mapping[str, str]) -> None:
        """An event of what is being done to an endpoint in the transaction of `on`."""
        owner = endpoint.owner
        await self.outbox.append(on, self.now(), what, endpoint.id, owner.tenant, {"subject": owner.subject, **data})

    def secrets_of(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Those that sign now, the newest first."""
        held = [self.seal.open(endpoint.id, endpoint.sealed).decode()]
        if endpoint.previous is not None and (endpoint.previous_until or 0.0) > self.now():
            held.append(self.seal.open(endpoint.id, endpoint.previous).decode())
        return tuple(held)
