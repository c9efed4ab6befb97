"""Which events of services webhooks tell of, by which names, and what they say: OpenAI's where there is one. Pure."""

from __future__ import annotations

import json

from cordee.domain.record import record
from cordee.services.base.outbox import Event

RESPONSES = ("response.completed", "response.failed", "response.cancelled", "response.incomplete")
BATCHES = ("batch.completed", "batch.failed", "batch.expired", "batch.cancelled")
JOBS = ("job.completed", "job.failed", "job.cancelled")  # ours: OpenAI has no jobs
EVENT_TYPES = (*RESPONSES, *BATCHES, *JOBS)
PATTERNS = ("cordee.chats.response.*", "cordee.batches.batch.*", "cordee.batches.job.*")
_TOLD_OF = {
    **{f"cordee.chats.{name}": name for name in RESPONSES},
    **{f"cordee.batches.{name}": name for name in (*BATCHES, *JOBS)},
}
_SAMPLE_IDS = {"response": "resp_", "batch": "batch_", "job": "job_"}
_SAMPLE_DIGITS = "0" * 32


@record
class Message:
    """What is sent: `id` is the same for every endpoint and every repetition."""

    id: str
    type: str
    body: str


def message(event: Event) -> Message | None:
    """What webhooks say of an event; None for what they do not tell of. Chats tell of responses that ran in the background: for any
    other its caller waited."""
    name = _TOLD_OF.get(event.type)
    return None if name is None else _message(event.id, name, event.time, event.subject)


def owner_of(event: Event) -> str | None:
    """The user or application whose it is, as far as the event says; None: all of the tenant's."""
    subject = json.loads(event.data).get("subject")
    return subject if isinstance(subject, str) else None


def sample(id: str, name: str, now: float) -> Message:
    """A message of a test."""
    return _message(id, name, now, _SAMPLE_IDS[name.partition(".")[0]] + _SAMPLE_DIGITS)


def _message(id: str, name: str, time: float, subject: str) -> Message:
    told = f"evt_{id.rpartition('_')[2]}"
    body = {"id": told, "object": "event", "created_at": int(time), "type": name, "data": {"id": subject}}
    return Message(told, name, json.dumps(body, separators=(",", ":")))
