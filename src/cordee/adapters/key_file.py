"""What the key file holds, and how it is read: keys as hashes, their limits, and those of tenants.

A key is 256 random bits, so a plain SHA-256 of it is the right thing to store: there is no dictionary to run against it,
and a slow password hash would only let strangers burn our processors. The key itself is shown once and kept nowhere.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from cordee.domain.call import Priority, Sensitivity
from cordee.domain.caller import ADMIN, INFERENCE, UNLIMITED, Allowances, Budget, Caller, Period, stands_for

KEYS_FILE = "keys.json"
FILE_BYTES_MAX = 64 * 1024 * 1024  # the most keys there can be, of the longest names
SCOPES = (INFERENCE, ADMIN)
FORMAT = 1  # fields that came later have defaults, so a file of any version of this format is read
NAME_CHARACTERS_MAX = 128
LIMIT_MAX = 1_000_000_000  # more than any machine answers; a typing mistake beyond
TOKENS_MAX = 1_000_000_000_000_000  # of a budget; still exact in a double
MONEY_MAX = 1_000_000_000.0
BUDGETS_MAX = len(Period)
MARK_DIGITS = 16  # of the hash of a key's hash: it tells one key from the next, and nothing else
REGION_PATTERN = r"^([a-z0-9-]{1,63})?\Z"  # what the header X-Cordee-Region may say, in lower case
_Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX)]
_Region = Annotated[str, Meta(pattern=REGION_PATTERN)]
_Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]
_Tokens = Annotated[int, Meta(ge=1, le=TOKENS_MAX)]
_Money = Annotated[float, Meta(gt=0, le=MONEY_MAX)]
PriorityName = Literal["interactive", "standard", "batch"]
SensitivityName = Literal["public", "internal", "confidential"]


class KeysError(Exception):
    """The keys cannot be read or changed; the message says which file, why, and what to do."""


class BudgetRecord(Struct, frozen=True, forbid_unknown_fields=True):
    """One budget as it is stored."""

    period: Literal["hour", "day", "month"]
    tokens: _Tokens | None = None
    money: _Money | None = None


class _Limited(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The limits that keys and tenants have alike."""

    requests_per_minute: _Limit | None = None
    concurrent_calls: _Limit | None = None
    tokens_per_minute: _Limit | None = None
    budgets: Annotated[tuple[BudgetRecord, ...], Meta(max_length=BUDGETS_MAX)] = ()

    @property
    def allowances(self) -> Allowances:
        budgets = tuple(Budget(Period(one.period), one.tokens, one.money) for one in self.budgets)
        return Allowances(self.requests_per_minute, self.concurrent_calls, self.tokens_per_minute, budgets)


class TenantRecord(_Limited, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all keys of one tenant may use together."""

    tenant: _Name


class KeyRecord(_Limited, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key as it is stored. `digest` is the SHA-256 of the key in hexadecimal, `created` seconds since the epoch."""

    id: _Name
    digest: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    tenant: _Name
    name: _Name
    scopes: tuple[str, ...] = (INFERENCE,)
    created: int = 0
    priority: PriorityName = "standard"
    priority_max: PriorityName = "interactive"
    local_only: bool = False
    sensitivity: SensitivityName = "internal"
    region: _Region = ""

    @property
    def caller(self) -> Caller:
        """Whom the key stands for, without what its tenant's keys share."""
        return self.caller_of(UNLIMITED)

    def caller_of(self, shared: Allowances) -> Caller:
        return Caller(
            self.id, self.tenant, stands_for(frozenset(self.scopes)), self.allowances, shared, Priority[self.priority.upper()],
            Priority[self.priority_max.upper()], self.local_only, Sensitivity[self.sensitivity.upper()],
            self.region, grant=mark(bytes.fromhex(self.digest)),
        )  # fmt: skip


class KeyFile(Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    keys: list[KeyRecord]
    tenants: list[TenantRecord] = []


@dataclass(frozen=True, slots=True)
class Held:
    """What the key file holds."""

    keys: list[KeyRecord]
    tenants: dict[str, TenantRecord]

    def shared(self, tenant: str) -> Allowances:
        found = self.tenants.get(tenant)
        return UNLIMITED if found is None else found.allowances


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells one content of a file from the next without reading it."""

    mtime_ns: int
    size: int
    inode: int


def digest(key: bytes) -> bytes:
    """What is stored and looked up in place of a key."""
    return hashlib.sha256(key).digest()


def mark(stored: bytes) -> str:
    """What another key of the same id would not have. `stored`: the digest of the key."""
    return digest(stored).hex()[:MARK_DIGITS]


def file_state(path: Path) -> FileState | None:
    """None: there is no such file. Raises OSError when it cannot be looked at."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return FileState(found.st_mtime_ns, found.st_size, found.st_ino)


def read_keys(data: Path) -> list[KeyRecord]:
    """Every key of the data directory; none where there is no file yet. Raises KeysError."""
    return read_all(data).keys


def read_all(data: Path) -> Held:
    """Every key and every tenant's limits; nothing where there is no file yet. Raises KeysError."""
    path = data / KEYS_FILE
    try:
        with path.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return Held([], {})
    except OSError as error:
        raise KeysError(
            f"{path}: cannot be read: {error.strerror}; it must belong to the user that runs Cordée."
        ) from error
    if len(raw) > FILE_BYTES_MAX:
        raise KeysError(f"{path}: longer than {FILE_BYTES_MAX} bytes; this is not a key file.")
    try:
        content = msgspec.json.decode(raw, type=KeyFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise KeysError(
            f"{path}: not a key file: {error}; restore it, or move it away and create the keys anew."
        ) from error
    if content.version != FORMAT:
        raise KeysError(f"{path}: format {content.version}, this version of Cordée reads {FORMAT}.")
    strange = next((scope for record in content.keys for scope in record.scopes if scope not in SCOPES), None)
    if strange is not None:
        raise KeysError(f"{path}: unknown scope {strange!r}; allowed: {', '.join(SCOPES)}.")
    return Held(content.keys, {record.tenant: record for record in content.tenants})
