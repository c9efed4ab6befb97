"""Batches are made, seen and cancelled by whoever they belong to."""

from __future__ import annotations

from dataclasses import replace

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.base.door import Asked, DoorError
from cordee.services.base.errors import Problem, not_found
from cordee.services.base.identifiers import new
from cordee.services.base.paging import Page
from cordee.services.base.principal import Principal
from cordee.services.base.saga import Job
from cordee.services.batches.behalf import archivist
from cordee.services.batches.records import Batch, Endpoint, Status
from cordee.services.batches.rules import lifecycle
from cordee.services.batches.service import Service
from cordee.services.batches.store import batches
from cordee.services.batches.work import KIND, VALIDATE, Subject, subject_of

READ, WRITE = "batches.read", "batches.write"
FILES_READ = "files.read"
INPUT_PURPOSE = "batch"
_LOOK_S = 30.0  # for the input file's entry
_AWAY_S = 5
_NOT_THERE = frozenset({400, 403, 404})


@record
class Wanted:
    """What somebody wants run."""

    input_file: str
    endpoint: Endpoint
    metadata: tuple[tuple[str, str], ...] | None
    output_lasts_s: int | None


class _File(msgspec.Struct):
    purpose: str
    bytes: int


async def create(service: Service, who: Principal, wanted: Wanted) -> Batch:
    """Raises Problem: 400 for a file that cannot be run, 429 for too many batches, 503 while files cannot be asked."""
    who.need(WRITE)
    who.need(FILES_READ)
    now = service.now()
    batch = Batch(
        new("batch"), who.tenant, who.key, who.subject, who.scopes, "", wanted.endpoint, wanted.input_file,
        Status.VALIDATING, wanted.metadata, wanted.output_lasts_s, now, now + service.settings.window_s,
    )  # fmt: skip
    await _look(service, batch)
    async with service.database.writing() as on:
        if await service.jobs.waiting(on, who.tenant, KIND) >= service.settings.jobs.waiting_max:
            most = service.settings.jobs.waiting_max
            said = f"{most} batches of this tenant have not ended, which is the most there may be; wait until one has."
            raise Problem(429, said, code="too_many_batches", retry_after_s=_AWAY_S)
        data = msgspec.json.encode(Subject(batch.id)).decode()
        job = await service.jobs.add(on, now, KIND, VALIDATE, who.tenant, who.subject, data)
        batch = replace(batch, job=job.id)
        await batches.add(on, batch)
        await service.tell(
            on, "batch.created", batch.id, batch.tenant, {"endpoint": batch.endpoint.value, "by": who.key}
        )
    service.awake.set()
    return batch


async def _look(service: Service, batch: Batch) -> None:
    """Whether the input file is there and meant for this. Raises Problem."""
    param = "input_file_id"
    try:
        answer = await service.door.ask(
            archivist(batch), Asked("GET", f"/v1/files/{batch.input_file}", timeout_s=_LOOK_S)
        )
    except DoorError as error:
        raise _files_away() from error
    if answer.status in _NOT_THERE:
        raise Problem(400, f"There is no file {batch.input_file}; upload it first.", param, "invalid_input_file")
    if answer.status != 200:
        raise _files_away()
    try:
        file = msgspec.json.decode(answer.body, type=_File)
    except msgspec.DecodeError as error:
        raise _files_away() from error
    if file.purpose != INPUT_PURPOSE:
        said = f"File {batch.input_file} was uploaded with the purpose {file.purpose!r}; it must be {INPUT_PURPOSE!r}."
        raise Problem(400, said, param, "invalid_input_file")
    if file.bytes > service.settings.input_bytes_max:
        said = (
            f"File {batch.input_file} has {file.bytes} bytes; {service.settings.input_bytes_max} are allowed. Split it."
        )
        raise Problem(400, said, param, "file_too_large")


def _files_away() -> Problem:
    return Problem(
        503,
        "The input file cannot be looked at now; try again.",
        "input_file_id",
        "service_away",
        retry_after_s=_AWAY_S,
    )


async def seen(service: Service, who: Principal, batch_id: str) -> Batch:
    """Raises Problem (404)."""
    who.need(READ)
    async with service.database.reading() as on:
        batch = await batches.seen(on, who.tenant, who.subject, batch_id)
    if batch is None:
        raise not_found("batch", batch_id)
    return batch


async def page(service: Service, who: Principal, asked: Page) -> list[Batch]:
    """One more than the page holds, if there is one."""
    who.need(READ)
    async with service.database.reading() as on:
        return await batches.page(on, who.tenant, who.subject, asked)


async def cancel(service: Service, who: Principal, batch_id: str) -> Batch:
    """It ends early; what was answered stays. Raises Problem (404, 409)."""
    who.need(WRITE)
    async with service.database.writing() as on:
        found = await batches.seen(on, who.tenant, who.subject, batch_id)
        if found is None:
            raise not_found("batch", batch_id)
        # The job before the batch, as its steps do: no two wait in a ring.
        job = await service.jobs.wanted(on, found.job, who.tenant, who.subject)
        cancelled = await _cancelled(service, on, found)
        if job is not None:
            await service.jobs.mark_cancelled(on, job, service.now())
    service.awake.set()
    return cancelled


async def cancel_job(service: Service, on: AsyncConnection, job: Job) -> None:
    """The same for who cancels its job instead, which is held."""
    batch = await batches.seen(on, job.tenant, job.subject, subject_of(job).batch)
    if batch is not None:
        await _cancelled(service, on, batch)


async def _cancelled(service: Service, on: AsyncConnection, found: Batch) -> Batch:
    batch = await batches.held(on, found.tenant, found.subject, found.id)
    if batch is None:
        raise not_found("batch", found.id)
    cancelled = lifecycle.cancelled(batch, service.now())
    if cancelled is not batch:
        await batches.change(on, cancelled)
    return cancelled
