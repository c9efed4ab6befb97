"""Access tokens are believed from the published keys alone: one algorithm, one type, a key that is known already (RFC 8725, RFC 9068).

Nothing in a token's header may choose an algorithm, bring a key or name where one is to be had, and an unknown key id asks nobody: it is
one that is not believed. What a token says beside is what its issuer wrote, because only then is it read.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from cordee.domain.record import record
from cordee.wire.credentials import SigningKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOKEN_BYTES_MAX = 4096
ALGORITHM, TYPE = "EdDSA", "at+jwt"
KEY_BYTES, SIGNATURE_BYTES = 32, 64
CLOCK_S = 5.0  # clocks of hosts may differ by this much


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    alg: str
    typ: str
    kid: str


class _Claims(msgspec.Struct):
    iss: str
    aud: str
    sub: str
    tenant: str
    scope: str
    iat: int
    exp: int
    nbf: int = 0
    sid: str = ""
    client_id: str = ""


@record
class Claims:
    """`family`: the signing in that the token came of, "" for an application that acts for itself. `ends_s`: seconds of the epoch.
    `client`: the application that the token is for, or wire.credentials.OWN_CLIENT."""

    subject: str
    tenant: str
    scopes: frozenset[str]
    family: str
    ends_s: int
    client: str = ""


_HEADER = msgspec.json.Decoder(_Header)
_CLAIMS = msgspec.json.Decoder(_Claims)


class Verifier:
    """Believes the tokens of one issuer for one audience."""

    def __init__(self, issuer: str, audience: str, keys: Sequence[SigningKey]) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = _opened(keys)

    def read(self, token: bytes, now: float) -> Claims | None:
        """None for whatever is no access token in force, whatever is wrong with it."""
        if len(token) > TOKEN_BYTES_MAX:
            return None
        signed, _, shown = token.rpartition(b".")
        head, _, body = signed.partition(b".")
        try:
            header = _HEADER.decode(_bytes(head))
            signature = _bytes(shown)
        except ValueError:
            return None
        key = self._keys.get(header.kid)
        if key is None or header.alg != ALGORITHM or header.typ != TYPE or len(signature) != SIGNATURE_BYTES:
            return None
        if not _is_signed(key, signature, signed):
            return None
        try:
            said = _CLAIMS.decode(_bytes(body))
        except ValueError:
            return None
        if said.iss != self._issuer or said.aud != self._audience or not said.iat < said.exp:
            return None
        if not max(said.iat, said.nbf) - CLOCK_S <= now < said.exp:
            return None
        return Claims(said.sub, said.tenant, frozenset(said.scope.split()), said.sid, said.exp, said.client_id)


def _opened(keys: Sequence[SigningKey]) -> Mapping[str, Ed25519PublicKey]:
    if not keys:
        return {}
    # A gateway without accounts does not pay for the library.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415

    opened: dict[str, Ed25519PublicKey] = {}
    for key in keys:
        raw = _bytes(key.x.encode())
        if len(raw) == KEY_BYTES:
            opened[key.kid] = Ed25519PublicKey.from_public_bytes(raw)
    return opened


def _is_signed(key: Ed25519PublicKey, signature: bytes, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # there already when there is a key

    try:
        key.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


def _bytes(text: bytes) -> bytes:
    """Base64url without padding, and only as it is written by who encodes: one token has one form. Raises ValueError."""
    data = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text:
        raise ValueError("not the form in which this is written")
    return data
