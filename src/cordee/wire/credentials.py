"""What accounts tell gateways of who there is: pages of a feed that is followed by a revision, and the seal they come under.

A page holds whole objects as they are now, never differences, so one that comes twice does no harm; what is gone is named. A gateway
keeps all of it in one page of the same form. Pure: the secret is an argument.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from cordee.domain.caller import ORDINARY, UNBOUNDED, UNLIMITED, Allowances, Bounds, Standing

PATH = "/v1/accounts/feed"
SEAL_HEADER = "X-Cordee-Seal"
# What a gateway understands: who asks for 1 is not told of keys and tenants with a standing or bounds, which it could not keep to. The
# epoch is told with the format, so that whoever learns another one reads all of it anew.
FORMAT = 2
OWN_CLIENT = "cordee"  # the client_id of tokens of people who signed in here themselves, and not for an application
_AIM = b"cordee credentials v1."  # so that what is sealed for anything else opens nothing here


class Key(msgspec.Struct, frozen=True):
    """An API key: `digest` is its SHA-256 in hexadecimal, `owner` a user or an application. `standing` counts within what the tenant's
    bounds leave of it."""

    id: str
    digest: str
    tenant: str
    owner: str
    scopes: list[str]
    limits: Allowances = UNLIMITED
    expires_at: float | None = None
    standing: Standing = ORDINARY


class Principal(msgspec.Struct, frozen=True):
    """A user or an application and what it may do today. `mark`: another one when its password or secret changes."""

    id: str
    tenant: str
    scopes: list[str]
    mark: str
    is_active: bool = True


class Tenant(msgspec.Struct, frozen=True):
    """What all its keys and tokens may use together, and how far each may go."""

    id: str
    limits: Allowances = UNLIMITED
    bounds: Bounds = UNBOUNDED


class Ended(msgspec.Struct, frozen=True):
    """A signing in that was ended; none of its tokens is in force after `until`. Browsers' sessions of it may last for longer."""

    family: str
    until: float


class SigningKey(msgspec.Struct, frozen=True):
    """The public half of an Ed25519 key: `x` as a JWK has it."""

    kid: str
    x: str


class Page(msgspec.Struct, frozen=True):
    """Everything that has changed after revision `after` up to `revision`. `epoch` names the life of the database that counts:
    another one, and what is known is worth nothing. `newest`: the last revision there is. `restarts`: the asker knows what cannot be told
    from, and begins anew at 0; `has_more`: there is another page at once. `gone`: ids of keys, users, applications and tenants that are
    no longer there. `ended_kept_s`: for so long after the last token of a sign-in that was ended it is told that it was, to whoever
    asks for the first time, too; 0: not at all (accounts of before). `sessions_since_s`: in what a gateway keeps, see adapters.known.
    """

    epoch: str
    after: int
    revision: int
    issuer: str
    audience: str
    newest: int = 0
    restarts: bool = False
    has_more: bool = False
    signing_keys: list[SigningKey] = []
    keys: list[Key] = []
    principals: list[Principal] = []
    tenants: list[Tenant] = []
    ended: list[Ended] = []
    gone: list[str] = []
    ended_kept_s: float = 0.0
    sessions_since_s: float = 0.0


_DECODER = msgspec.json.Decoder(Page)


def encode(page: Page) -> bytes:
    return msgspec.json.encode(page)


def decode(data: bytes) -> Page:
    """Raises ValueError for what is no page."""
    return _DECODER.decode(data)


def seal(data: bytes, secret: bytes) -> str:
    """HMAC-SHA256 in hexadecimal, with the installation's secret."""
    return hmac.digest(secret, _AIM + data, hashlib.sha256).hex()


def is_sealed(data: bytes, shown: str, secret: bytes) -> bool:
    return shown.isascii() and hmac.compare_digest(seal(data, secret), shown)
