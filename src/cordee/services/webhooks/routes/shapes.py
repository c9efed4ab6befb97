"""What callers send and are shown: OpenAI's webhook endpoints, and deliveries, which are ours."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from cordee.services.base.identifiers import PATTERN
from cordee.services.webhooks.records import Delivery, Endpoint
from cordee.services.webhooks.rules.target import URL_CHARACTERS_MAX
from cordee.services.webhooks.rules.words import EVENT_TYPES

NAME_CHARACTERS_MAX = 256
EventType = Literal[
    "response.completed", "response.failed", "response.cancelled", "response.incomplete",
    "batch.completed", "batch.failed", "batch.expired", "batch.cancelled",
    "job.completed", "job.failed", "job.cancelled",
]  # fmt: skip
assert get_args(EventType) == EVENT_TYPES, "what is told, said once more for the type checker"
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=r"^[^\x00-\x1f\x7f]+$")]
Url = Annotated[str, StringConstraints(min_length=1, max_length=URL_CHARACTERS_MAX)]
EventTypes = Annotated[list[EventType], Field(min_length=1, max_length=len(EVENT_TYPES))]
EndpointId = Annotated[str, Path(pattern=PATTERN, title="webhook endpoint")]
DeliveryId = Annotated[str, Path(pattern=PATTERN)]


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Make(_Asked):
    """A new endpoint."""

    name: Name = Field(description="For people.")
    url: Url = Field(description="Where deliveries are sent to: https.")
    event_types: EventTypes = Field(description="What is told.")


class Change(_Asked):
    """What is different from now on. It switches an endpoint on again that was given up."""

    name: Name | None = None
    url: Url | None = None
    event_types: EventTypes | None = None


class Rotate(_Asked):
    """A new secret."""

    keep_old_secret_active_for_24_hours: bool = False


class Try(_Asked):
    """A sample delivery, now."""

    event_type: EventType


class Shown(BaseModel):
    """An endpoint."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str
    disabled_at: int | None = Field(description="Since when nothing is sent, because everything failed for days.")
    failing_since: int | None = Field(description="The first failure since something was last taken.")


class ShownWithSecret(Shown):
    """An endpoint, and its secret: this once."""

    signing_secret: str


class Removed(BaseModel):
    """It is gone, with its deliveries."""

    id: str
    object: Literal["webhook_endpoint.deleted"] = "webhook_endpoint.deleted"
    deleted: bool = True


class TestResult(BaseModel):
    """A server answered; `status_code` says how."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int
    success: Literal[True] = True


class Types(BaseModel):
    """All that can be told."""

    object: Literal["list"] = "list"
    data: list[str]


class ShownDelivery(BaseModel):
    """One message to one endpoint. `event_id` is what receivers know it by."""

    id: str
    object: Literal["webhook_endpoint.delivery"] = "webhook_endpoint.delivery"
    webhook_endpoint_id: str
    event_id: str
    event_type: str
    state: Literal["waiting", "delivered", "failed"]
    tries: int
    created_at: int
    next_at: int | None = Field(description="When it is tried again.")
    ended_at: int | None
    status_code: int | None = Field(description="What the last try was answered.")
    error: str | None = Field(description="What was wrong with the last try.")


def shown(one: Endpoint) -> Shown:
    return Shown(
        id=one.id, created_at=int(one.created_at), updated_at=int(one.updated_at), name=one.name, url=one.url,
        event_types=list(one.event_types), signing_secret_hint=one.hint, disabled_at=_whole(one.disabled_at),
        failing_since=_whole(one.failing_since),
    )  # fmt: skip


def shown_delivery(one: Delivery) -> ShownDelivery:
    return ShownDelivery(
        id=one.id, webhook_endpoint_id=one.endpoint, event_id=one.message, event_type=one.type, state=one.state.value,
        tries=one.tries, created_at=int(one.created_at), next_at=None if one.ended_at is not None else int(one.next_at),
        ended_at=_whole(one.ended_at), status_code=one.status, error=one.why or None,
    )  # fmt: skip


def _whole(time: float | None) -> int | None:
    return None if time is None else int(time)
