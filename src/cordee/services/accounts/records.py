"""Who and what there is in accounts. Times are seconds of the epoch; digests are SHA-256 in hexadecimal."""

from __future__ import annotations

from cordee.domain.caller import ORDINARY, UNBOUNDED, UNLIMITED, Allowances, Bounds, Standing
from cordee.domain.record import record
from cordee.services.accounts.rules.rights import SCOPES, Role
from cordee.wire import credentials


@record
class Tenant:
    """An organisation. Nothing of one is visible to another. `allowances`: what all its keys may use together; `bounds`: how far each
    call of it may go."""

    id: str
    name: str
    created_at: float
    is_operator: bool = False
    allowances: Allowances = UNLIMITED
    bounds: Bounds = UNBOUNDED


@record
class User:
    """A person in one tenant. Who is not `is_active` can neither sign in nor use what they hold."""

    id: str
    tenant: str
    email: str
    name: str
    role: Role
    password_hash: str
    created_at: float
    is_active: bool = True


@record
class Application:
    """A program of a tenant. A confidential one has a secret and may act for itself within `scopes`."""

    id: str
    tenant: str
    name: str
    scopes: frozenset[str]
    redirect_uris: tuple[str, ...]
    secret_digest: str | None
    created_at: float


OWN_CLIENT = credentials.OWN_CLIENT
# What no tenant registered: our own sign-in and command line. It acts for whoever signs in with it, never for itself.
OWN = Application(OWN_CLIENT, "", "the command line of Cordée", SCOPES, (), None, 0.0)


@record
class ApiKey:
    """What programs call with. `owner` is a user or an application; `hint` are the last characters, by which people know it.
    `standing` counts within the bounds of the tenant."""

    id: str
    tenant: str
    owner: str
    name: str
    digest: str
    hint: str
    scopes: frozenset[str]
    created_at: float
    allowances: Allowances = UNLIMITED
    expires_at: float | None = None
    last_used_at: float | None = None
    standing: Standing = ORDINARY


@record
class Family:
    """One signing in and all refresh tokens that followed from it. Revoked, none of its tokens is believed."""

    id: str
    tenant: str
    user: str
    application: str | None
    scopes: frozenset[str]
    created_at: float
    expires_at: float
    revoked_at: float | None = None


@record
class Code:
    """An authorization code: what a user allowed to an application, to be fetched once."""

    digest: str
    user: str
    application: str
    redirect_uri: str
    challenge: str
    scopes: frozenset[str]
    nonce: str | None
    expires_at: float
    family: str | None = None  # what was made of it; a second fetch ends that


@record
class Device:
    """A device that waits until somebody allows it to act for them. `is_allowed` None: nobody has answered yet."""

    digest: str
    user_code: str
    application: str
    scopes: frozenset[str]
    expires_at: float
    polled_at: float | None = None
    is_allowed: bool | None = None
    user: str | None = None
