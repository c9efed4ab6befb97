"""How batches and jobs look on the wire: OpenAI's batch object, and our own job. Times are seconds of the epoch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from cordee.services.base.saga import Job, Saga
from cordee.services.batches.records import Batch, Endpoint
from cordee.services.batches.rules.terms import (
    KEPT_S_MAX,
    KEPT_S_MIN,
    METADATA_KEY_CHARACTERS_MAX,
    METADATA_MAX,
    METADATA_VALUE_CHARACTERS_MAX,
    without_nul,
)

SUBJECT_CHARACTERS_MAX = 64
SUBJECT_PATTERN = r"^[!-~]{1,64}$"  # what tenants, users and keys are called, by whichever of the two that name them
WINDOW: Literal["24h"] = "24h"
EndpointName = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"]
StatusName = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
StateName = Literal["queued", "running", "compensating", "done", "failed", "cancelled"]
MetadataKey = Annotated[str, Field(max_length=METADATA_KEY_CHARACTERS_MAX), AfterValidator(without_nul)]
MetadataValue = Annotated[str, Field(max_length=METADATA_VALUE_CHARACTERS_MAX), AfterValidator(without_nul)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=METADATA_MAX)]
SubjectId = Annotated[str, Field(pattern=SUBJECT_PATTERN, max_length=SUBJECT_CHARACTERS_MAX)]


class Given(BaseModel):
    """A request's body: no other parameters than these, and none of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)


class ExpiresAfter(Given):
    """From when, and after how long, output files are deleted."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=KEPT_S_MIN, le=KEPT_S_MAX)]


class BatchGiven(Given):
    input_file_id: Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{1,64}$")]
    endpoint: EndpointName
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None

    @property
    def meant(self) -> Endpoint:
        return Endpoint(self.endpoint)


class FaultShape(BaseModel):
    code: str
    line: int | None
    message: str
    param: str | None


class FaultsShape(BaseModel):
    object: Literal["list"] = "list"
    data: list[FaultShape]


class CountsShape(BaseModel):
    completed: int
    failed: int
    total: int


class CachedShape(BaseModel):
    cached_tokens: int


class ReasoningShape(BaseModel):
    reasoning_tokens: int


class UsageShape(BaseModel):
    input_tokens: int
    input_tokens_details: CachedShape
    output_tokens: int
    output_tokens_details: ReasoningShape
    total_tokens: int


class BatchShape(BaseModel):
    """OpenAI's batch object."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: EndpointName
    model: str | None
    errors: FaultsShape | None
    input_file_id: str
    completion_window: Literal["24h"] = WINDOW
    status: StatusName
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: CountsShape
    usage: UsageShape
    metadata: dict[str, str] | None


class TenantErasure(Given):
    """Erase a tenant from all services. For operators."""

    kind: Literal["tenant.erase"]
    tenant: SubjectId


class UserErasure(Given):
    """Erase a user or an application from all services."""

    kind: Literal["user.erase"]
    user: SubjectId
    tenant: SubjectId | None = Field(None, description="Your own when not given; another one's is for operators.")


JobGiven = Annotated[TenantErasure | UserErasure, Field(discriminator="kind")]


class JobShape(BaseModel):
    """Long work that is done in steps."""

    id: str
    object: Literal["job"] = "job"
    kind: str
    tenant: str = Field(description="Of whoever asked for it.")
    state: StateName
    step: str = Field(description="What is done, or undone, next; at the end what was done last.")
    steps: list[str]
    tries: int = Field(description="How often this step has failed.")
    error: str | None = Field(description="Why the last try failed, or what it waits for.")
    data: dict[str, Any] = Field(description="What it is about.")
    is_cancelled: bool
    created_at: int
    changed_at: int
    next_at: int = Field(description="Not before this.")
    ended_at: int | None


def batch_shape(batch: Batch) -> BatchShape:
    usage = batch.usage
    is_expired = batch.expired_at is not None and batch.has_ended
    return BatchShape(
        id=batch.id, endpoint=batch.endpoint.value, model=batch.model, errors=_faults(batch), input_file_id=batch.input_file,
        status=batch.status.value, output_file_id=batch.output_file, error_file_id=batch.error_file,
        created_at=int(batch.created_at), in_progress_at=_second(batch.in_progress_at), expires_at=int(batch.expires_at),
        finalizing_at=_second(batch.finalizing_at), completed_at=_second(batch.completed_at), failed_at=_second(batch.failed_at),
        expired_at=_second(batch.expired_at) if is_expired else None, cancelling_at=_second(batch.cancelling_at),
        cancelled_at=_second(batch.cancelled_at),
        request_counts=CountsShape(completed=batch.completed, failed=batch.failed, total=batch.total),
        usage=UsageShape(
            input_tokens=usage.input, input_tokens_details=CachedShape(cached_tokens=usage.cached), output_tokens=usage.output,
            output_tokens_details=ReasoningShape(reasoning_tokens=usage.reasoning), total_tokens=usage.input + usage.output,
        ),
        metadata=None if batch.metadata is None else dict(batch.metadata),
    )  # fmt: skip


def job_shape(job: Job, sagas: dict[str, Saga]) -> JobShape:
    saga = sagas.get(job.kind)
    return JobShape(
        id=job.id, kind=job.kind, tenant=job.tenant, state=job.state.value, step=job.step,
        steps=[] if saga is None else [step.name for step in saga.steps], tries=job.tries, error=job.error or None,
        data=msgspec.json.decode(job.data), is_cancelled=job.is_cancelled, created_at=int(job.created_at),
        changed_at=int(job.changed_at), next_at=int(job.next_at), ended_at=_second(job.ended_at),
    )  # fmt: skip


def _faults(batch: Batch) -> FaultsShape | None:
    if not batch.faults:
        return None
    shown = [FaultShape(code=one.code, line=one.line, message=one.message, param=one.param) for one in batch.faults]
    return FaultsShape(data=shown)


def _second(at: float | None) -> int | None:
    return None if at is None else int(at)
