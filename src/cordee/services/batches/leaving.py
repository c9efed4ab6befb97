"""All that belongs to somebody is handed out, or erased."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from cordee.services.base.principal import SYSTEM, Principal
from cordee.services.batches.erasing import KINDS
from cordee.services.batches.records import Batch
from cordee.services.batches.service import Service
from cordee.services.batches.store import batches, lines

AT_ONCE = 20  # batches of one piece


async def erase(service: Service, who: Principal, tenant: str, user: str | None) -> bool:
    """Erase what a tenant, or one of its users, has here; a piece of it. True: nothing is left. Raises Problem."""
    who.need(SYSTEM)
    async with service.database.writing() as on:
        # Without their jobs nobody writes for these batches any more: who runs one finds it lost. What erases stays.
        await service.jobs.erase(on, tenant, user, KINDS)
        found = await batches.of_subject(on, tenant, user, "", AT_ONCE)
        emptied: list[str] = []
        for batch in found:
            if await lines.remove(on, batch.id, service.settings.piece_lines) == service.settings.piece_lines:
                break
            emptied.append(batch.id)
        await batches.erase(on, tenant, emptied)
    return len(emptied) == len(found) < AT_ONCE


async def export(service: Service, tenant: str, subject: str) -> AsyncGenerator[Batch, None]:
    """Every batch; what went in and came out is in files."""
    after = ""
    while True:
        async with service.database.reading() as on:
            found = await batches.of_subject(on, tenant, subject, after, AT_ONCE)
        for batch in found:
            yield batch
        if len(found) < AT_ONCE:
            return
        after = found[-1].id
