"""Events as they travel: CloudEvents 1.0 in the structured JSON format, so that any broker carries them and any program reads them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec

from cordee.services.base.outbox import SPEC_VERSION, Event, envelope

CONTENT_TYPE = "application/cloudevents+json"


class _Envelope(msgspec.Struct):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: str
    tenant: str
    data: msgspec.Raw


_decoder = msgspec.json.Decoder(_Envelope)


def written(event: Event) -> bytes:
    """What is handed to a broker."""
    return envelope(event, _iso)


def read(body: bytes) -> Event:
    """The event that `written` wrote. Raises ValueError for anything else."""
    try:
        found = _decoder.decode(body)
        time = datetime.fromisoformat(found.time).timestamp()
    except (msgspec.MsgspecError, ValueError) as error:
        raise ValueError(f"not one of our events: {error}") from error
    if found.specversion != SPEC_VERSION:
        raise ValueError(f"an event of CloudEvents {found.specversion[:16]}; this program reads {SPEC_VERSION}")
    data = json.dumps(json.loads(bytes(found.data)))
    return Event(found.id, found.source, found.type, found.subject, found.tenant, time, data)


def _iso(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
