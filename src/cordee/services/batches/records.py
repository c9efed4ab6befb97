"""What a batch is, and a line of one."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from cordee.domain.record import record


class Status(StrEnum):
    """As OpenAI names them."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ENDED = frozenset({Status.COMPLETED, Status.FAILED, Status.EXPIRED, Status.CANCELLED})


class Endpoint(StrEnum):
    """Where the lines of a batch go."""

    CHAT = "/v1/chat/completions"
    COMPLETIONS = "/v1/completions"
    EMBEDDINGS = "/v1/embeddings"
    RESPONSES = "/v1/responses"


class Fate(IntEnum):
    """What became of a line: WAITING for an answer, or in the file of outputs, or in that of errors."""

    WAITING = 0
    SERVED = 1
    FAILED = 2


@record
class Fault:
    """What is wrong with an input file. `line`: counted from 1; None for the file as a whole."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


@record
class Usage:
    """Tokens."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input + other.input,
            self.cached + other.cached,
            self.output + other.output,
            self.reasoning + other.reasoning,
        )


@record
class Batch:
    """`key`, `subject`, `scopes`: of whom its lines are asked on behalf. Times in seconds of the epoch; `output_lasts_s`: how long its
    files are kept, None for ever; `metadata` and `faults` are what was given and found."""

    id: str
    tenant: str
    key: str
    subject: str
    scopes: frozenset[str]
    job: str
    endpoint: Endpoint
    input_file: str
    status: Status
    metadata: tuple[tuple[str, str], ...] | None
    output_lasts_s: int | None
    created_at: float
    expires_at: float
    model: str | None = None
    faults: tuple[Fault, ...] = ()
    total: int = 0
    completed: int = 0
    failed: int = 0
    usage: Usage = Usage()
    output_file: str | None = None
    error_file: str | None = None
    in_progress_at: float | None = None
    finalizing_at: float | None = None
    completed_at: float | None = None
    failed_at: float | None = None
    expired_at: float | None = None
    cancelling_at: float | None = None
    cancelled_at: float | None = None

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED


@record
class Line:
    """One request: `number` counted from 1 in its file, `request` the JSON that is asked."""

    number: int
    custom_id: str
    request: bytes


@record
class Result:
    """How a line ended: `status` and `body` as the gateways answered."""

    number: int
    fate: Fate
    status: int
    request_id: str
    body: bytes
    usage: Usage


@record
class Ended:
    """A line as it is written into a file. `status` 0: it was never answered."""

    number: int
    custom_id: str
    status: int
    request_id: str
    body: bytes
