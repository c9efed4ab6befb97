"""What there is in webhooks. Times are seconds of the epoch."""

from __future__ import annotations

from cordee.domain.record import record
from cordee.services.webhooks.rules.schedule import State


@record
class Owner:
    """Whose an endpoint is: of a tenant, and of a user or application in it; "" for a key that belongs to the tenant alone."""

    tenant: str
    subject: str


@record
class Endpoint:
    """Where a tenant wants to be told. `sealed`: its secret, and until `previous_until` the one before. `failing_since`: the first
    failure since it last took something; `disabled_at`: it was given up, and nothing is sent."""

    id: str
    owner: Owner
    name: str
    url: str
    event_types: tuple[str, ...]
    sealed: bytes
    hint: str
    created_at: float
    updated_at: float
    previous: bytes | None = None
    previous_until: float | None = None
    failing_since: float | None = None
    disabled_at: float | None = None


@record
class Delivery:
    """One message on its way to one endpoint. `number` goes up each time it is taken up: what an earlier taker writes is refused."""

    id: str
    endpoint: str
    tenant: str
    message: str
    type: str
    body: str
    state: State
    tries: int
    number: int
    created_at: float
    next_at: float
    ended_at: float | None = None
    status: int | None = None
    why: str = ""
