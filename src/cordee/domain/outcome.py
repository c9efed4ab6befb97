"""How a call ended. Every call has exactly one outcome."""

from __future__ import annotations

from enum import StrEnum

from cordee.domain.record import record


class Why(StrEnum):
    """Why a call was refused or failed: the closed list that wire turns into status codes."""

    BAD_KEY = "invalid_api_key"
    NO_SCOPE = "insufficient_scope"
    REVOKED = "key_revoked"  # while the call was under way
    NO_MODEL = "model_not_found"
    RATE = "rate_limit_exceeded"
    CONCURRENCY = "concurrency_limit_exceeded"
    BUDGET = "insufficient_quota"
    OVERLOADED = "overloaded"
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    DEADLINE = "deadline_exceeded"
    NO_REPLICA = "no_replica"
    ATTEMPTS = "attempts_exhausted"
    REPLICA = "replica_error"
    DIVERGED = "continuation_impossible"
    QUARANTINED = "request_quarantined"
    UNFIT = "unprocessable_request"  # what it asks for cannot be done by any worker, which only shows while it is done
    SHUTDOWN = "shutting_down"


@record
class Refusal:
    """An expected no. `retry_after_s` says when asking again makes sense; None: not by waiting. Of a queue: `position` is how
    many wait in front, `wait_s` how long that takes."""

    why: Why
    message: str
    retry_after_s: float | None = None
    position: int | None = None
    wait_s: float | None = None


class End(StrEnum):
    """The four ways a call can end."""

    SERVED = "served"
    REFUSED = "refused"
    FAILED = "failed"
    ABANDONED = "abandoned"


@record
class Outcome:
    """The one record of how a call ended, appended to the ledger.

    `continued` counts takeovers after the first token; `attempts` counts all. `identical` is whether every takeover was
    between replicas that compute bitwise the same answer.

    `model` answered; `asked` is the model the caller named where that is another one. `replicas`: all that were tried, in order.
    `continuation`: how the answer went on after a break: "" (it did not), "exact", "tokens", "text" or "restart". `resumed`: the
    client came back for the rest of a call that had begun elsewhere; then tokens count what is new. `cloud`: it left this
    installation, for `money` in the currency of the configuration. `cached`: tokens of the prompt that were not computed again.
    """

    call_id: str
    end: End
    model: str
    tenant: str
    why: Why | None = None
    replica: str = ""
    attempts: int = 0
    continued: int = 0
    identical: bool = True
    tokens_in: int = 0
    tokens_out: int = 0
    queue_s: float = 0.0
    first_token_s: float | None = None
    total_s: float = 0.0
    key_id: str = ""
    path: str = ""
    asked: str = ""
    replicas: tuple[str, ...] = ()
    continuation: str = ""
    resumed: bool = False
    cloud: bool = False
    money: float = 0.0
    cached: int = 0
