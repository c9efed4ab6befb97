"""What the job of a batch is about, and what is told of one that has ended: what all its steps need."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.saga import ImpossibleError, Job, Turn
from cordee.services.batches.records import Batch
from cordee.services.batches.service import Service
from cordee.services.batches.store import batches

KIND = "batch"
VALIDATE, ASK, FINALIZE, CLEAR = "validate", "ask", "finalize", "clear"  # its steps
ERASED = "the batch was erased"


class Subject(msgspec.Struct, frozen=True):
    """As the job's row keeps it."""

    batch: str


def subject_of(job: Job) -> Subject:
    return msgspec.json.decode(job.data, type=Subject)


async def of_turn(service: Service, turn: Turn) -> Batch:
    """The batch of a job. Raises ImpossibleError when it is gone."""
    async with service.database.reading() as on:
        batch = await batches.seen(on, turn.job.tenant, turn.job.subject, subject_of(turn.job).batch)
    if batch is None:
        raise ImpossibleError(ERASED)
    return batch


async def held_by(on: AsyncConnection, turn: Turn) -> Batch:
    """The batch of a job, which nobody else changes before this transaction ends. Raises ImpossibleError when it is gone."""
    batch = await batches.held(on, turn.job.tenant, turn.job.subject, subject_of(turn.job).batch)
    if batch is None:
        raise ImpossibleError(ERASED)
    return batch


def told(batch: Batch) -> dict[str, Any]:
    """What the event of its end says."""
    return {
        "status": batch.status.value,
        "subject": batch.subject,
        "endpoint": batch.endpoint.value,
        "total": batch.total,
        "completed": batch.completed,
        "failed": batch.failed,
        "output_file": batch.output_file,
        "error_file": batch.error_file,
    }
