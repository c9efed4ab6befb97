"""What has expired, was given up or was left behind by a crash is removed, now and then, by every process.

Each step finds in the database what there is to do, takes it in the transaction that finds it, and can be repeated; two processes that
sweep at once do nothing twice that matters.
"""

from __future__ import annotations

import asyncio
import logging

from cordee.services.base.database import AwayError
from cordee.services.files import ingest
from cordee.services.files.keeping import removed
from cordee.services.files.records import UploadStatus
from cordee.services.files.service import Service
from cordee.services.files.store import blobs, files, uploads
from cordee.services.files.uploading import end_early

_log = logging.getLogger(__name__)


async def run(service: Service) -> None:
    """Sweep until cancelled."""
    while True:
        try:
            await sweep(service)
        except AwayError as error:
            _log.warning("what has expired stays for now: %s", error)
        except Exception as error:
            # Whatever it is, a sweep that never comes again would fill the storage.
            _log.error("what has expired stays for now: sweeping failed", exc_info=error)
        await asyncio.sleep(service.settings.sweep_s)


async def sweep(service: Service) -> None:
    """One look; at most `swept_max` of each kind. Raises AwayError."""
    most, now = service.settings.swept_max, service.now()
    async with service.database.writing() as on:
        await removed(service, on, await files.remove_expired(on, now, most), "expired")
    async with service.database.writing() as on:
        for upload in await uploads.overdue(on, now, most):
            await end_early(on, upload, UploadStatus.EXPIRED)
        await uploads.forget_ended(on, now - service.settings.ended_upload_kept_s)
        await blobs.give_up_silent(on, now)
    async with service.database.reading() as on:
        names = await blobs.gone(on, most)
    await ingest.remove(service, names)
