"""What all that batches and jobs do is done with: one of each per process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.config.sections.services import Batches
from cordee.services.base.database import Database
from cordee.services.base.door import Door
from cordee.services.base.jobs import Jobs
from cordee.services.base.outbox import Outbox


@dataclass(frozen=True, slots=True)
class Service:
    """The parts. `calls`: room for the calls of all batches of this process; `wake`: says that a job was added; `now`: seconds of
    the epoch."""

    settings: Batches
    database: Database
    door: Door
    outbox: Outbox
    jobs: Jobs
    now: Callable[[], float]
    calls: asyncio.Semaphore
    awake: asyncio.Event = field(default_factory=asyncio.Event)

    async def tell(self, on: AsyncConnection, what: str, subject: str, tenant: str, data: Mapping[str, Any]) -> None:
        """An event of what is being done in the transaction of `on`."""
        await self.outbox.append(on, self.now(), what, subject, tenant, data)
