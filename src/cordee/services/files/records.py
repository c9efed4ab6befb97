"""What files are made of: a file is a name for a content, an upload a file to be, a part a piece of it, a blob the content itself."""

from __future__ import annotations

from enum import Enum

from cordee.domain.record import record


class Purpose(Enum):
    """What a file is for, as OpenAI names it."""

    ASSISTANTS = "assistants"
    BATCH = "batch"
    BATCH_OUTPUT = "batch_output"
    EVALS = "evals"
    FINE_TUNE = "fine-tune"
    USER_DATA = "user_data"
    VISION = "vision"


class BlobState(Enum):
    """`WRITING`: may be there in part, and is somebody's until its lease ends; `KEPT`: whole, durable and a file's or part's;
    `GONE`: nobody's, to be removed from storage."""

    WRITING = "writing"
    KEPT = "kept"
    GONE = "gone"


class UploadStatus(Enum):
    """As OpenAI names them."""

    PENDING = "pending"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


@record
class Owner:
    """Whose something is: all that is asked for is asked for with these two. `subject`: the user or application that made it, ""
    for what was made with a key that belongs to the tenant alone."""

    tenant: str
    subject: str


@record
class Blob:
    """A content in storage. `size` in bytes as the client knows it; `wrapped`: its own key, sealed with the key `master` of the
    installation; both None where it is not encrypted."""

    name: str
    size: int
    master: str | None
    wrapped: bytes | None


@record
class File:
    """`sha256`: of the content, in hexadecimal. Times in seconds of the epoch."""

    id: str
    owner: Owner
    name: str
    purpose: Purpose
    media_type: str
    size: int
    sha256: str
    created_at: float
    expires_at: float | None
    blob: str


@record
class Upload:
    """`size`: in bytes, as announced. `kept_s`: for how long its file is to be kept once it is one, None for always;
    `part_ids`: of which it was completed, in their order."""

    id: str
    owner: Owner
    name: str
    purpose: Purpose
    media_type: str
    size: int
    created_at: float
    expires_at: float
    status: UploadStatus
    kept_s: int | None
    file_id: str | None = None
    part_ids: tuple[str, ...] = ()


@record
class Part:
    id: str
    upload_id: str
    size: int
    created_at: float
    blob: str
