"""Batches and jobs as a web application, and what runs beside its requests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.config.sections.services import Batches
from cordee.services.base import errors
from cordee.services.base.body import BodyLimit
from cordee.services.base.database import Database
from cordee.services.base.description import describe
from cordee.services.base.ground import Ground
from cordee.services.base.jobs import Jobs
from cordee.services.base.living import beside, opened
from cordee.services.base.outbox import Outbox
from cordee.services.base.runner import Runner
from cordee.services.base.saga import Job, JobState
from cordee.services.batches import migrations
from cordee.services.batches.erasing import KINDS, erase_saga
from cordee.services.batches.routes import batches, jobs
from cordee.services.batches.routes.at import Works
from cordee.services.batches.service import Service
from cordee.services.batches.steps import batch_saga
from cordee.services.batches.tables import jobs as jobs_table
from cordee.services.batches.tables import metadata, outbox, outbox_lease

NAME = "batches"
HISTORY = Path(str(migrations.__file__)).parent


def create(settings: Batches, database: Database, ground: Ground) -> FastAPI:
    """The application. Starting it migrates the database and begins to work; stopping it lets its jobs go and closes it."""
    service = Service(
        settings, database, ground.door, Outbox(NAME, outbox, outbox_lease, settings.outbox), Jobs(jobs_table), ground.now,
        asyncio.Semaphore(settings.calls_at_once),
    )  # fmt: skip
    sagas = (batch_saga(service), *(erase_saga(service, kind) for kind in KINDS))

    async def ended(on: AsyncConnection, job: Job) -> None:
        await _tell(service, on, job)

    @contextlib.asynccontextmanager
    async def living(_app: FastAPI) -> AsyncIterator[None]:
        runner = Runner(database, service.jobs, sagas, settings.jobs, ground.now, ended, service.awake)
        async with (
            opened(database, HISTORY, metadata, settings.database.migrate_wait_s),
            beside(service.outbox.run(database, ground.publisher, ground.now), runner.run()),
        ):
            yield

    app = FastAPI(
        title="Cordée batches", version="1", lifespan=living, docs_url=None,
        redoc_url=None, redirect_slashes=False, openapi_url="/v1/batches/openapi.json",
    )  # fmt: skip
    app.state.ground = ground
    app.state.works = Works(service, {saga.kind: saga for saga in sagas})
    app.add_middleware(BodyLimit, bytes_max=settings.body_bytes_max)
    errors.install(app)
    app.include_router(batches.router)
    app.include_router(jobs.router)
    describe(app)
    return app


async def _tell(service: Service, on: AsyncConnection, job: Job) -> None:
    """The end of a job, for whoever waits for it. A batch tells of its own end."""
    if job.kind not in KINDS:
        return
    data = {"kind": job.kind, "state": job.state.value, "step": job.step, "error": job.error}
    match job.state:
        case JobState.DONE:
            await service.tell(on, "job.completed", job.id, job.tenant, data)
        case JobState.CANCELLED:
            await service.tell(on, "job.cancelled", job.id, job.tenant, data)
        case _:
            await service.tell(on, "job.failed", job.id, job.tenant, data)
