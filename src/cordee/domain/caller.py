"""Who asks: tenant, name, scopes and limits."""

from __future__ import annotations

from dataclasses import dataclass

ADMIN = "admin"
INFERENCE = "inference"


@dataclass(frozen=True, slots=True)
class Allowances:
    """What one key may use. None is no limit."""

    requests_per_minute: int | None = None
    concurrent_calls: int | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a key. `key_id` is public (it names the key in logs); the key itself is never kept."""

    key_id: str
    tenant: str
    scopes: frozenset[str] = frozenset({INFERENCE})
    allowances: Allowances = Allowances()
