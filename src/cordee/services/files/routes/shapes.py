"""How files and uploads look on the wire: OpenAI's objects."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cordee.services.base.identifiers import PATTERN
from cordee.services.files.records import File, Part, Upload
from cordee.services.files.rules.terms import KEPT_S_MAX, KEPT_S_MIN

NAME_CHARACTERS_MAX = 4096
SIZE_MAX = 1 << 40
PARTS_MAX = 100_000
PurposeName = Literal["assistants", "batch", "batch_output", "evals", "fine-tune", "user_data", "vision"]


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ExpiresAfter(_Given):
    """From when, and after how long, a file is deleted."""

    anchor: Literal["created_at"]
    seconds: Annotated[int, Field(ge=KEPT_S_MIN, le=KEPT_S_MAX)]


class UploadGiven(_Given):
    bytes: Annotated[int, Field(ge=1, le=SIZE_MAX, description="How many the file will have.")]
    filename: Annotated[str, Field(min_length=1, max_length=NAME_CHARACTERS_MAX)]
    mime_type: Annotated[str, Field(min_length=1, max_length=256)]
    purpose: PurposeName
    expires_after: ExpiresAfter | None = None


class UploadCompleted(_Given):
    part_ids: Annotated[
        list[Annotated[str, Field(pattern=PATTERN)]],
        Field(min_length=1, max_length=PARTS_MAX, description="The parts in their order."),
    ]
    md5: Annotated[
        str | None, Field(pattern=r"^[0-9a-fA-F]{32}$", description="Of all parts together, in hexadecimal.")
    ] = None


class FileShape(BaseModel):
    """OpenAI's file object."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int | None
    filename: str
    purpose: PurposeName
    status: Literal["processed"] = "processed"


class FileDeleted(BaseModel):
    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class UploadShape(BaseModel):
    """OpenAI's upload object."""

    id: str
    object: Literal["upload"] = "upload"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: PurposeName
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: FileShape | None = None


class PartShape(BaseModel):
    """OpenAI's upload part object; `bytes` is ours."""

    id: str
    object: Literal["upload.part"] = "upload.part"
    created_at: int
    upload_id: str
    bytes: int


class PartsShape(BaseModel):
    object: Literal["list"] = "list"
    data: list[PartShape]


def file_shape(file: File) -> FileShape:
    return FileShape(
        id=file.id, bytes=file.size, created_at=int(file.created_at), filename=file.name, purpose=file.purpose.value,
        expires_at=None if file.expires_at is None else int(file.expires_at),
    )  # fmt: skip


def upload_shape(upload: Upload, file: File | None = None) -> UploadShape:
    return UploadShape(
        id=upload.id, bytes=upload.size, created_at=int(upload.created_at), expires_at=int(upload.expires_at),
        filename=upload.name, purpose=upload.purpose.value, status=upload.status.value,
        file=None if file is None else file_shape(file),
    )  # fmt: skip


def part_shape(part: Part) -> PartShape:
    return PartShape(id=part.id, created_at=int(part.created_at), upload_id=part.upload_id, bytes=part.size)
