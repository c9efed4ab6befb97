"""The key file: who may call, as hashes, changed by one process at a time and never half written.

A key is 256 random bits, so a plain SHA-256 of it is the right thing to store: there is no dictionary to run against it,
and a slow password hash would only let strangers burn our processors. The key itself is shown once and kept nowhere.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from cordee.adapters.durable import directory, locked, replace
from cordee.domain.caller import ADMIN, INFERENCE, Allowances, Caller

KEYS_FILE = "keys.json"
KEY_PREFIX = "ck-"
KEY_RANDOM_BYTES = 32
KEYS_MAX = 100_000
FILE_BYTES_MAX = 64 * 1024 * 1024  # KEYS_MAX records of the longest names
SCOPES = (INFERENCE, ADMIN)
FORMAT = 1
UNLIMITED = Allowances()

_LOCK_FILE = "keys.lock"
_ID_RANDOM_BYTES = 6
NAME_CHARACTERS_MAX = 128
LIMIT_MAX = 1_000_000_000  # more than any machine answers; a typing mistake beyond
_Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]
_Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]


class KeysError(Exception):
    """The keys cannot be read or changed; the message says which file, why, and what to do."""


class KeyRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """One key as it is stored. `digest` is the SHA-256 of the key in hexadecimal, `created` seconds since the epoch."""

    id: _Name
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    tenant: _Name
    name: _Name
    scopes: tuple[str, ...] = (INFERENCE,)
    requests_per_minute: _Limit | None = None
    concurrent_calls: _Limit | None = None
    created: int = 0

    @property
    def caller(self) -> Caller:
        allowances = Allowances(self.requests_per_minute, self.concurrent_calls)
        return Caller(self.id, self.tenant, frozenset(self.scopes), allowances)


class _KeyFile(Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    keys: list[KeyRecord]


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells one content of a file from the next without reading it."""

    mtime_ns: int
    size: int
    inode: int


def digest(key: bytes) -> bytes:
    """What is stored and looked up in place of a key."""
    return hashlib.sha256(key).digest()


def file_state(path: Path) -> FileState | None:
    """None: there is no such file. Raises OSError when it cannot be looked at."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return FileState(found.st_mtime_ns, found.st_size, found.st_ino)


def read_keys(data: Path) -> list[KeyRecord]:
    """Every key of the data directory; none where there is no file yet. Raises KeysError."""
    path = data / KEYS_FILE
    try:
        with path.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise KeysError(
            f"{path}: cannot be read: {error.strerror}; it must belong to the user that runs Cordée."
        ) from error
    if len(raw) > FILE_BYTES_MAX:
        raise KeysError(f"{path}: longer than {FILE_BYTES_MAX} bytes; this is not a key file.")
    try:
        content = msgspec.json.decode(raw, type=_KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeysError(
            f"{path}: not a key file: {error}; restore it, or move it away and create the keys anew."
        ) from error
    if content.version != FORMAT:
        raise KeysError(f"{path}: format {content.version}, this version of Cordée reads {FORMAT}.")
    strange = next((scope for record in content.keys for scope in record.scopes if scope not in SCOPES), None)
    if strange is not None:
        raise KeysError(f"{path}: unknown scope {strange!r}; allowed: {', '.join(SCOPES)}.")
    return content.keys


def create_key(
    data: Path,
    name: str,
    *,
    tenant: str | None = None,
    scopes: tuple[str, ...] = (INFERENCE,),
    allowances: Allowances = UNLIMITED,
) -> tuple[str, KeyRecord]:
    """Add a key and return it with its record: the only time it can be seen. `tenant` None: the name. Raises KeysError."""
    tenant = name if tenant is None else tenant
    for what, text in (("name", name), ("tenant", tenant)):
        if not 1 <= len(text) <= NAME_CHARACTERS_MAX or not text.isprintable():
            raise KeysError(
                f"the {what} of a key must be 1 to {NAME_CHARACTERS_MAX} printable characters, not {text[:64]!r}."
            )
    if not scopes or not set(scopes) <= set(SCOPES):
        raise KeysError(f"scopes {', '.join(scopes) or '(none)'}: allowed are {', '.join(SCOPES)}.")
    for what, limit in (
        ("requests per minute", allowances.requests_per_minute),
        ("concurrent calls", allowances.concurrent_calls),
    ):
        if limit is not None and not 1 <= limit <= LIMIT_MAX:
            raise KeysError(f"{what}: {limit} is not from 1 to {LIMIT_MAX}; leave it away for no limit.")
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_RANDOM_BYTES)
    record = KeyRecord(
        id="key-" + secrets.token_hex(_ID_RANDOM_BYTES),
        digest=digest(key.encode()).hex(),
        tenant=tenant,
        name=name,
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        requests_per_minute=allowances.requests_per_minute,
        concurrent_calls=allowances.concurrent_calls,
        created=int(time.time()),
    )
    with _changing(data) as keys:
        if len(keys) >= KEYS_MAX:
            raise KeysError(f"{data / KEYS_FILE}: holds {len(keys)} keys, the most there can be; revoke some first.")
        keys.append(record)
    return key, record


def revoke_key(data: Path, key_id: str) -> KeyRecord:
    """Take a key away, by its id. Gateways follow within about a second. Raises KeysError."""
    with _changing(data) as keys:
        found = next((record for record in keys if record.id == key_id), None)
        if found is None:
            raise KeysError(f"there is no key with the id {key_id[:64]!r}; `cordee keys list` shows the ids.")
        keys.remove(found)
    return found


@contextlib.contextmanager
def _changing(data: Path) -> Iterator[list[KeyRecord]]:
    """Read, let the block change the list, write it back: under the lock, and only if the block did not raise."""
    try:
        with locked(directory(data) / _LOCK_FILE):
            keys = read_keys(data)
            yield keys
            content = msgspec.json.encode(_KeyFile(FORMAT, keys))
            replace(data / KEYS_FILE, msgspec.json.format(content, indent=1) + b"\n")
    except OSError as error:
        raise KeysError(
            f"{data}: the keys cannot be changed: {error.strerror}; free space or fix its owner, then try again."
        ) from error
