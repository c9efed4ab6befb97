"""Who asks: tenant, name, scopes, how high a call may go, and what key and tenant may use."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from cordee.domain.call import Priority, Sensitivity

ADMIN = "admin"
INFERENCE = "inference"
# What a key of the key file may do at the services, where nobody has a role: as much as a user of a tenant, or everything.
USER_SCOPES = frozenset(
    {
        *(INFERENCE, "chats.read", "chats.write", "files.read", "files.write", "batches.read", "batches.write"),
        *("usage.read", "tenant.read", "keys.read", "keys.write", "webhooks.read", "webhooks.write"),
    }
)
EVERY_SCOPE = USER_SCOPES | {
    *(ADMIN, "keys.manage", "applications.read", "applications.write", "users.read", "users.write"),
    *("tenant.write", "tenants.read", "tenants.write"),
}


class Period(Enum):
    """What a budget is counted over: the hours, days and months of UTC."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be used in one period: tokens, money in the currency of the configuration, or both. None is no limit."""

    period: Period
    tokens: int | None = None
    money: float | None = None


@dataclass(frozen=True, slots=True)
class Allowances:
    """What one key, or all keys of one tenant together, may use. None is no limit."""

    requests_per_minute: int | None = None
    concurrent_calls: int | None = None
    tokens_per_minute: int | None = None
    budgets: tuple[Budget, ...] = ()


UNLIMITED = Allowances()


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a tenant lets its calls go: no higher than `priority_max`, nowhere else if `local_only`, and at least as sensitive as
    `sensitivity`."""

    priority_max: Priority = Priority.INTERACTIVE
    local_only: bool = False
    sensitivity: Sensitivity = Sensitivity.PUBLIC


UNBOUNDED = Bounds()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a key's calls stand beside others: see Caller."""

    priority: Priority = Priority.STANDARD
    priority_max: Priority = Priority.INTERACTIVE
    local_only: bool = False
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    region: str = ""

    def within(self, bounds: Bounds) -> Standing:
        """As much of it as `bounds` leave."""
        highest = max(self.priority_max, bounds.priority_max)  # the lowest number is the highest
        return Standing(
            max(self.priority, highest), highest, self.local_only or bounds.local_only,
            max(self.sensitivity, bounds.sensitivity), self.region,
        )  # fmt: skip

    @property
    def bounds(self) -> Bounds:
        """What nobody who shows the key gets beyond."""
        return Bounds(self.priority_max, self.local_only, self.sensitivity)


ORDINARY = Standing()


@dataclass(frozen=True, slots=True)
class Caller:
    """The owner of a key. `key_id` is public (it names the key in logs); the key itself is never kept.

    `shared` is what all keys of the tenant may use together. `priority` is what a call gets that does not say,
    `priority_max` the highest it may ask for (the lowest number). `local_only`: its calls never leave this installation;
    otherwise `sensitivity` says how late they do. `region`: where its calls come from that do not say; "" for unknown.
    `subject` is the user or application behind the key or token, "" for a key that belongs to the tenant alone. `grant` is what must
    go on for the caller to go on: the mark of the key, or the signing in that the token came of. `is_limited`: there is anything to
    count at all.
    """

    key_id: str
    tenant: str
    scopes: frozenset[str] = frozenset({INFERENCE})
    allowances: Allowances = UNLIMITED
    shared: Allowances = UNLIMITED
    priority: Priority = Priority.STANDARD
    priority_max: Priority = Priority.INTERACTIVE
    local_only: bool = False
    sensitivity: Sensitivity = Sensitivity.INTERNAL
    region: str = ""
    subject: str = ""
    grant: str = field(default="", compare=False)
    is_limited: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        limited = self.allowances != UNLIMITED or self.shared != UNLIMITED
        object.__setattr__(self, "is_limited", limited)  # once, where the key is read: a call asks one attribute


def stands_for(scopes: frozenset[str]) -> frozenset[str]:
    """All that a key of the key file with these scopes may do."""
    if ADMIN in scopes:
        return scopes | (EVERY_SCOPE if INFERENCE in scopes else EVERY_SCOPE - {INFERENCE})
    return scopes | USER_SCOPES if INFERENCE in scopes else scopes
