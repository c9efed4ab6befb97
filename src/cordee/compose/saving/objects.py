"""The contents of files that lie in a bucket, into a backup and back, as they lie there: encrypted ones stay encrypted.

Contents in the data directory are part of that directory. They are copied after the databases: one that was uploaded meanwhile is
too many in the backup, which harms nothing; one that was deleted meanwhile is missing, as its owner wanted.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError

from cordee.compose.saving.archive import Entry, Writer
from cordee.compose.saving.problem import SavingError
from cordee.config.sections.services import Files
from cordee.services.base.database import DatabaseError
from cordee.services.files.storage import open_storage

if TYPE_CHECKING:
    from obstore.store import ObjectStore

FOLDER = "objects/"
_READ_BYTES = 4 * 1024 * 1024


class Bucket:
    """The bucket of the files service. Every method raises SavingError."""

    def __init__(self, settings: Files, data: Path) -> None:
        with _said(settings):
            self._objects: ObjectStore = open_storage(settings, data, os.environ).objects
        self._settings = settings

    def is_empty(self) -> bool:
        with _said(self._settings):
            return not next(iter(obstore.list(self._objects, chunk_size=1)), [])

    def sizes(self) -> Iterator[int]:
        """Bytes of each object."""
        with _said(self._settings):
            for page in obstore.list(self._objects):
                yield from (one["size"] for one in page)

    def save(self, to: Writer) -> int:
        """Returns how many there were."""
        count = 0
        with _said(self._settings):
            for page in obstore.list(self._objects):
                for one in page:
                    try:
                        reader = obstore.open_reader(self._objects, one["path"], buffer_size=_READ_BYTES)
                    except FileNotFoundError:
                        continue  # deleted since it was listed
                    to.add(FOLDER + one["path"], one["size"], _Bytes(reader))
                    count += 1
        return count

    def put(self, entry: Entry) -> None:
        with _said(self._settings):
            # Not obstore.put of the pieces: they may come from an object store as well, and one cannot wait within the other.
            writer = obstore.open_writer(self._objects, entry.name.removeprefix(FOLDER))
            for piece in entry.pieces():
                writer.write(piece)
            writer.close()


class _Bytes(io.RawIOBase):
    """What obstore reads is a buffer of its own."""

    def __init__(self, reader: obstore.ReadableFile) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return bytes(self._reader.read(size))


@contextlib.contextmanager
def _said(settings: Files) -> Iterator[None]:
    try:
        yield
    except DatabaseError as error:
        raise SavingError(str(error)) from error
    except BaseError as error:
        reason = str(error).partition("\n")[0][:300]
        raise SavingError(f"{settings.bucket.url} does not answer as it should: {reason}") from error
