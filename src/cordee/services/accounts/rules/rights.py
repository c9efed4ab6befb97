"""Who may do what: roles stand for sets of scopes, and nobody gives away what they do not have."""

from __future__ import annotations

from enum import StrEnum

from cordee.domain.caller import ADMIN


class Scope(StrEnum):
    """One thing that may be done. A key or token holds some of those that its owner's role stands for."""

    INFERENCE = "inference"
    CHATS_READ = "chats.read"
    CHATS_WRITE = "chats.write"
    FILES_READ = "files.read"
    FILES_WRITE = "files.write"
    BATCHES_READ = "batches.read"
    BATCHES_WRITE = "batches.write"
    WEBHOOKS_READ = "webhooks.read"
    WEBHOOKS_WRITE = "webhooks.write"
    USAGE_READ = "usage.read"
    KEYS_READ = "keys.read"  # one's own
    KEYS_WRITE = "keys.write"  # one's own
    KEYS_MANAGE = "keys.manage"  # those of the whole tenant, limits included
    APPLICATIONS_READ = "applications.read"
    APPLICATIONS_WRITE = "applications.write"
    USERS_READ = "users.read"
    USERS_WRITE = "users.write"
    TENANT_READ = "tenant.read"
    TENANT_WRITE = "tenant.write"
    TENANTS_READ = "tenants.read"  # all of the installation
    TENANTS_WRITE = "tenants.write"  # all of the installation, limits included
    ADMIN = ADMIN  # the gateways' own administration


class Identity(StrEnum):
    """What OpenID Connect calls scopes: which facts about a user a client learns. They allow nothing."""

    OPENID = "openid"
    EMAIL = "email"
    PROFILE = "profile"
    OFFLINE_ACCESS = "offline_access"


class Role(StrEnum):
    """What a user is in their tenant."""

    OWNER = "owner"
    ADMIN = "admin"
    DEVELOPER = "developer"
    USER = "user"
    VIEWER = "viewer"


_VIEWER = frozenset({Scope.CHATS_READ, Scope.FILES_READ, Scope.BATCHES_READ, Scope.USAGE_READ, Scope.TENANT_READ})
_USER = _VIEWER | {
    Scope.INFERENCE, Scope.CHATS_WRITE, Scope.FILES_WRITE, Scope.BATCHES_WRITE, Scope.KEYS_READ, Scope.KEYS_WRITE,
    Scope.WEBHOOKS_READ, Scope.WEBHOOKS_WRITE,
}  # fmt: skip
_DEVELOPER = _USER | {Scope.APPLICATIONS_READ, Scope.APPLICATIONS_WRITE, Scope.USERS_READ}
_ADMIN = _DEVELOPER | {Scope.USERS_WRITE, Scope.KEYS_MANAGE}
_OWNER = _ADMIN | {Scope.TENANT_WRITE}
_SCOPES = {Role.VIEWER: _VIEWER, Role.USER: _USER, Role.DEVELOPER: _DEVELOPER, Role.ADMIN: _ADMIN, Role.OWNER: _OWNER}
_OPERATING = frozenset({Scope.TENANTS_READ, Scope.TENANTS_WRITE, Scope.ADMIN})
_RANK = {Role.VIEWER: 0, Role.USER: 1, Role.DEVELOPER: 2, Role.ADMIN: 3, Role.OWNER: 4}
_OPERATORS = frozenset({Role.OWNER, Role.ADMIN})


def scopes_of(role: Role, is_operator: bool) -> frozenset[str]:
    """What a role may do. `is_operator`: in the tenant that runs the installation."""
    own = _SCOPES[role] | _OPERATING if is_operator and role in _OPERATORS else _SCOPES[role]
    return frozenset(scope.value for scope in own)


def may_appoint(actor: Role, before: Role | None, after: Role | None) -> bool:
    """Whether somebody may turn one role into another; None is not (any more) there.

    Owners may do everything; others only move those below them, and only to below themselves.
    """
    if actor is Role.OWNER:
        return True
    return all(role is None or _RANK[role] < _RANK[actor] for role in (before, after))


def beyond(asked: frozenset[str], held: frozenset[str]) -> tuple[str, ...]:
    """Which of the scopes asked for are not held, in order; facts about oneself are everybody's."""
    return tuple(sorted(asked - held - IDENTITY))


SCOPES = frozenset(scope.value for scope in Scope)
IDENTITY = frozenset(scope.value for scope in Identity)
