"""Where a backup lies: a file, or an object in S3 or what speaks like it.

A backup is there whole or not at all: a file gets its name when it is complete and on the disk, an object appears when its upload is
completed. Nothing is overwritten.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from cordee.compose.saving.problem import SavingError
from cordee.compose.saving.sealing import Sink

S3 = "s3://"
_READ_BYTES = 4 * 1024 * 1024  # asked of an object store at once


@contextlib.contextmanager
def writing(place: str) -> Iterator[Sink]:
    """Raises SavingError, also when the block raises OSError of a full disk."""
    if place.startswith(S3):
        with _object_written(place) as sink:
            yield sink
        return
    path = Path(place)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    if path.exists():
        raise SavingError(f"{path} is there already: choose another name, or move it away")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)  # unlike a rename it does not overwrite what somebody has put there meanwhile
            _sync(path.parent)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        cure = "free some space" if error.errno == errno.ENOSPC else "choose another place"
        raise SavingError(f"{error.filename or path}: {error.strerror}; {cure}") from error


@contextlib.contextmanager
def reading(place: str) -> Iterator[Any]:
    """A binary file that can be sought. Raises SavingError."""
    if place.startswith(S3):
        store, key = _store(place)
        try:
            yield _Object(obstore.open_reader(store, key, buffer_size=_READ_BYTES))
        except (BaseError, FileNotFoundError) as error:
            raise SavingError(f"{place} cannot be read: {_first_line(error)}") from error
        return
    try:
        with Path(place).open("rb") as file:
            yield file
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        if error.filename != place:
            raise  # of something else within the block
        raise SavingError(f"{place} cannot be read: {error.strerror}") from error


class _Object:
    """An object as a file: what the store gives is a buffer of its own."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def read(self, size: int, /) -> bytes:
        return bytes(self._file.read(size))

    def seek(self, position: int) -> None:
        self._file.seek(position)


@contextlib.contextmanager
def _object_written(place: str) -> Iterator[Sink]:
    store, key = _store(place)
    try:
        with contextlib.suppress(FileNotFoundError):
            obstore.head(store, key)
            raise SavingError(f"{place} is there already: choose another name")
        writer = obstore.open_writer(store, key)
        yield writer
        writer.close()  # only now it appears; after an error the upload is never completed
    except BaseError as error:
        raise SavingError(f"{place} cannot be written: {_first_line(error)}") from error


def _store(place: str) -> tuple[Any, str]:
    parts = urlsplit(place)
    key = parts.path.lstrip("/")
    if not parts.netloc or not key:
        raise SavingError(f"{place} is not s3://BUCKET/NAME")
    try:
        return from_url(f"{S3}{parts.netloc}"), key
    except (BaseError, ValueError) as error:
        raise SavingError(f"{place}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
