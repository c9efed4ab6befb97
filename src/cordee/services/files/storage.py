"""Where contents lie: a directory, or a bucket, by one library (obstore). Knows names and bytes, no files and no keys.

A content is there whole or not at all, and when `write` returns it survives a power cut. What a crash leaves half written has no
name that anybody asks for; `delete` of the name takes that along.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store

from cordee.config.sections.services import Bucket, Files
from cordee.services.base.database import DatabaseError

if TYPE_CHECKING:
    from obstore.store import ObjectStore, S3Config

MIB = 1 << 20
DIRECTORY = "files"
_SHARD_CHARACTERS = 2  # of the random end of a name: contents of a directory are spread over 256 of them
_WRITING_AT_ONCE = 1  # pieces on their way while the next one fills
_READ_BYTES = 262_144  # at once; larger ones make the library and the allocator keep several times as much
_FILE_MODE, _DIRECTORY_MODE = 0o600, 0o700
_FULL = re.compile(r"os error (28|122)\b|StorageFull|\b507\b")  # ENOSPC, EDQUOT, and what stores say that are full
_SHORT = re.compile(r"InvalidRange|\b416\b")  # a range behind the end
_FULL_ERRNO = (errno.ENOSPC, errno.EDQUOT)


class StorageAwayError(Exception):
    """The storage does not answer, or not as it should; the same request may succeed later."""


class StorageFullError(Exception):
    """There is no room for this."""


class MissingError(Exception):
    """There is nothing under this name."""


class Storage:
    """Contents by name. `root`: the directory, None for a bucket."""

    def __init__(self, store: ObjectStore, root: Path | None, piece_bytes: int, free_bytes_min: int) -> None:
        self._store = store
        self._root = root
        self._piece_bytes = piece_bytes
        self._free_bytes_min = free_bytes_min

    @property
    def objects(self) -> ObjectStore:
        """All that lies there, for who copies it as a whole."""
        return self._store

    async def write(self, name: str, content: AsyncIterator[bytes]) -> None:
        """Keep `content` under `name`. When `content` raises, nothing is kept, and that is raised. Raises StorageAwayError,
        StorageFullError."""
        try:
            if self._root is not None:
                (self._root / name[-_SHARD_CHARACTERS:]).mkdir(_DIRECTORY_MODE, exist_ok=True)
            await obstore.put_async(
                self._store, _place(name), content, chunk_size=self._piece_bytes, max_concurrency=_WRITING_AT_ONCE
            )
            if self._root is not None:
                await asyncio.to_thread(_settle, self._root / _place(name))
        except (BaseError, OSError) as error:
            raise _meant(error) from error

    async def read(self, name: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to but without `stop`, of which there is at least one. Raises MissingError,
        StorageAwayError."""
        try:
            found = await obstore.get_async(self._store, _place(name), options={"range": (start, stop)})
            async for piece in found.stream(min_chunk_size=_READ_BYTES):
                yield bytes(piece)
        except FileNotFoundError as error:
            raise MissingError(f"{name} is not in storage.") from error
        except (BaseError, OSError) as error:
            if _SHORT.search(str(error)):
                raise MissingError(f"{name} is shorter in storage than what was written there.") from error
            raise _meant(error) from error

    async def delete(self, name: str) -> None:
        """Remove what is there under `name`, also half of it. Raises StorageAwayError."""
        try:
            with contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(self._store, _place(name))
            if self._root is not None:
                await asyncio.to_thread(_remove_halves, self._root / _place(name))
        except (BaseError, OSError) as error:
            raise _meant(error) from error

    async def need_room(self) -> None:
        """Raises StorageFullError where the directory's disk has hardly any left: databases and logs need it more."""
        if self._root is None:
            return
        free = (await asyncio.to_thread(shutil.disk_usage, self._root)).free
        if free < self._free_bytes_min:
            raise StorageFullError(
                f"the disk of the data directory has {free >> 20} MiB left, less than the {self._free_bytes_min >> 20} MiB "
                f"that are kept free (services.files.free_bytes_min)."
            )


def open_storage(settings: Files, data: Path, environment: Mapping[str, str]) -> Storage:
    """The storage that the settings name. Connects at the first use. Raises DatabaseError."""
    if settings.bucket.url:
        return Storage(_bucket(settings.bucket, environment), None, settings.bucket.piece_mib * MIB, 0)
    root = data / "services" / DIRECTORY
    try:
        root.mkdir(_DIRECTORY_MODE, parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(
            f"{root}: cannot be created: {error.strerror}; free space or fix the owner of {data}."
        ) from error
    return Storage(LocalStore(root), root, MIB, settings.free_bytes_min)


def _bucket(settings: Bucket, environment: Mapping[str, str]) -> S3Store:
    key_id, key = environment.get(settings.key_id_env, ""), environment.get(settings.key_env, "")
    if not key_id or not key:
        raise DatabaseError(
            f"the keys of {settings.url} are not there: set the environment variables {settings.key_id_env} and {settings.key_env}."
        )
    bucket, _, prefix = settings.url.removeprefix("s3://").partition("/")
    config: S3Config = {"access_key_id": key_id, "secret_access_key": key, "region": settings.region}
    if settings.endpoint:
        config["endpoint"] = settings.endpoint
    if environment.get(settings.token_env):
        config["session_token"] = environment[settings.token_env]
    return S3Store(
        bucket,
        prefix=prefix.strip("/") or None,
        config=config,
        client_options={
            "allow_http": settings.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=settings.connect_s),
            "timeout": timedelta(seconds=settings.answer_s),
        },
        retry_config={"max_retries": settings.retries, "retry_timeout": timedelta(seconds=settings.answer_s)},
    )


def _place(name: str) -> str:
    return f"{name[-_SHARD_CHARACTERS:]}/{name}"


def _settle(path: Path) -> None:
    """Make what was written, and its name, outlive a power cut. The library does neither."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fchmod(descriptor, _FILE_MODE)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    for directory in (path.parent, path.parent.parent):
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_halves(path: Path) -> None:
    """What the library had begun when the process was killed: it writes to NAME#NUMBER and renames at the end."""
    for half in path.parent.glob(f"{path.name}#*"):
        half.unlink(missing_ok=True)


def _meant(error: Exception) -> StorageAwayError | StorageFullError:
    if (isinstance(error, OSError) and error.errno in _FULL_ERRNO) or _FULL.search(str(error)):
        return StorageFullError("there is no room left where files are kept.")
    return StorageAwayError("the storage of files does not answer as it should.")
