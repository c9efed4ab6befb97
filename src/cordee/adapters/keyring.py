"""Keys are made, limited and taken away: the key file is changed by one process at a time and never half written."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import msgspec

from cordee.adapters.durable import directory, locked, replace
from cordee.adapters.key_file import (
    FORMAT,
    KEYS_FILE,
    LIMIT_MAX,
    MONEY_MAX,
    NAME_CHARACTERS_MAX,
    REGION_PATTERN,
    SCOPES,
    TOKENS_MAX,
    BudgetRecord,
    FileState,
    Held,
    KeyFile,
    KeyRecord,
    KeysError,
    PriorityName,
    SensitivityName,
    TenantRecord,
    digest,
    file_state,
    read_all,
    read_keys,
)
from cordee.domain.call import Priority, Sensitivity
from cordee.domain.caller import INFERENCE, ORDINARY, UNLIMITED, Allowances, Standing

__all__ = [
    "KEYS_FILE", "KEY_PREFIX", "KEY_RANDOM_BYTES", "SCOPES", "FileState", "Held", "KeyRecord", "KeysError", "Standing",
    "create_key", "digest", "file_state", "limit_key", "limit_tenant", "read_all", "read_keys", "revoke_key",
]  # fmt: skip

KEY_PREFIX = "ck-"
KEY_RANDOM_BYTES = 32
KEYS_MAX = 100_000
_LOCK_FILE = "keys.lock"
_ID_RANDOM_BYTES = 6


def create_key(
    data: Path,
    name: str,
    *,
    tenant: str | None = None,
    scopes: tuple[str, ...] = (INFERENCE,),
    allowances: Allowances = UNLIMITED,
    standing: Standing = ORDINARY,
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
    _check(allowances)
    if standing.priority < standing.priority_max:
        raise KeysError(
            f"a key cannot start its calls as {standing.priority.name.lower()} and go no higher than "
            f"{standing.priority_max.name.lower()}; raise the highest, or lower the usual one."
        )
    if not re.match(REGION_PATTERN, standing.region):
        raise KeysError(
            f"the region {standing.region[:64]!r} of a key must be a name of small letters, digits and -, up to 63 of them."
        )
    key = KEY_PREFIX + secrets.token_urlsafe(KEY_RANDOM_BYTES)
    record = KeyRecord(
        id="key-" + secrets.token_hex(_ID_RANDOM_BYTES),
        digest=digest(key.encode()).hex(),
        tenant=tenant,
        name=name,
        scopes=tuple(scope for scope in SCOPES if scope in scopes),
        created=int(time.time()),
        priority=_priority_name(standing.priority),
        priority_max=_priority_name(standing.priority_max),
        local_only=standing.local_only,
        sensitivity=_sensitivity_name(standing.sensitivity),
        region=standing.region,
        **_stored(allowances),
    )
    with _changing(data) as held:
        if len(held.keys) >= KEYS_MAX:
            raise KeysError(
                f"{data / KEYS_FILE}: holds {len(held.keys)} keys, the most there can be; revoke some first."
            )
        held.keys.append(record)
    return key, record


def revoke_key(data: Path, key_id: str) -> KeyRecord:
    """Take a key away, by its id. Gateways follow within about a second. Raises KeysError."""
    with _changing(data) as held:
        found = _find(held, key_id)
        held.keys.remove(found)
    return found


def limit_key(data: Path, key_id: str, allowances: Allowances) -> KeyRecord:
    """Give a key other limits, all of them anew. Gateways follow within about a second. Raises KeysError."""
    _check(allowances)
    with _changing(data) as held:
        found = _find(held, key_id)
        changed = msgspec.structs.replace(found, **_stored(allowances))
        held.keys[held.keys.index(found)] = changed
    return changed


def limit_tenant(data: Path, tenant: str, allowances: Allowances) -> None:
    """What all keys of a tenant may use together; without any limit the tenant's entry goes. Raises KeysError."""
    _check(allowances)
    if not 1 <= len(tenant) <= NAME_CHARACTERS_MAX or not tenant.isprintable():
        raise KeysError(f"a tenant is 1 to {NAME_CHARACTERS_MAX} printable characters, not {tenant[:64]!r}.")
    with _changing(data) as held:
        held.tenants.pop(tenant, None)
        if allowances != UNLIMITED:
            if len(held.tenants) >= KEYS_MAX:
                raise KeysError(
                    f"{data / KEYS_FILE}: holds limits of {len(held.tenants)} tenants, the most there can be."
                )
            held.tenants[tenant] = TenantRecord(tenant=tenant, **_stored(allowances))


def _find(held: Held, key_id: str) -> KeyRecord:
    found = next((record for record in held.keys if record.id == key_id), None)
    if found is None:
        raise KeysError(f"there is no key with the id {key_id[:64]!r}; `cordee keys list` shows the ids.")
    return found


def _check(allowances: Allowances) -> None:
    for what, limit in (
        ("requests per minute", allowances.requests_per_minute),
        ("concurrent calls", allowances.concurrent_calls),
        ("tokens per minute", allowances.tokens_per_minute),
    ):
        if limit is not None and not 1 <= limit <= LIMIT_MAX:
            raise KeysError(f"{what}: {limit} is not from 1 to {LIMIT_MAX}; leave it away for no limit.")
    for budget in allowances.budgets:
        if budget.tokens is not None and not 1 <= budget.tokens <= TOKENS_MAX:
            raise KeysError(f"tokens per {budget.period.value}: {budget.tokens} is not from 1 to {TOKENS_MAX}.")
        if budget.money is not None and not 0 < budget.money <= MONEY_MAX:
            raise KeysError(
                f"money per {budget.period.value}: {budget.money:g} is not above 0 and up to {MONEY_MAX:g}."
            )


class _Stored(TypedDict):
    requests_per_minute: int | None
    concurrent_calls: int | None
    tokens_per_minute: int | None
    budgets: tuple[BudgetRecord, ...]


def _stored(allowances: Allowances) -> _Stored:
    budgets = tuple(BudgetRecord(one.period.value, one.tokens, one.money) for one in allowances.budgets)
    return _Stored(
        requests_per_minute=allowances.requests_per_minute,
        concurrent_calls=allowances.concurrent_calls,
        tokens_per_minute=allowances.tokens_per_minute,
        budgets=budgets,
    )


def _priority_name(priority: Priority) -> PriorityName:
    names: dict[Priority, PriorityName] = {
        Priority.INTERACTIVE: "interactive",
        Priority.STANDARD: "standard",
        Priority.BATCH: "batch",
    }
    return names[priority]


def _sensitivity_name(sensitivity: Sensitivity) -> SensitivityName:
    names: dict[Sensitivity, SensitivityName] = {
        Sensitivity.PUBLIC: "public",
        Sensitivity.INTERNAL: "internal",
        Sensitivity.CONFIDENTIAL: "confidential",
    }
    return names[sensitivity]


@contextlib.contextmanager
def _changing(data: Path) -> Iterator[Held]:
    """Read, let the block change it, write it back: under the lock, and only if the block did not raise."""
    try:
        with locked(directory(data) / _LOCK_FILE):
            held = read_all(data)
            yield held
            content = msgspec.json.encode(KeyFile(FORMAT, held.keys, list(held.tenants.values())))
            replace(data / KEYS_FILE, msgspec.json.format(content, indent=1) + b"\n")
    except OSError as error:
        raise KeysError(
            f"{data}: the keys cannot be changed: {error.strerror}; free space or fix its owner, then try again."
        ) from error
