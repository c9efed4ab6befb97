"""What an identity token of a provider says, if it is one for us: pure, over keys that were fetched before.

The rules are OpenID Connect Core 3.1.3.7 and RFC 8725: the algorithms are ours to choose and all of them have a public key, a key is
used for its own kind only, and nothing in the token's head names a key or an address that is then believed.
"""

from __future__ import annotations

import hmac
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey

from cordee.domain.record import record

TOKEN_CHARACTERS_MAX = 16_384
SUBJECT_CHARACTERS_MAX = 255  # OpenID Connect Core, 2
KEYS_MAX = 64  # of one provider; further ones are not looked at
SKEW_S = 60.0  # by which the clocks of provider and installation may differ
RSA_BITS_MIN = 2048
_TIME_MAX = 2.0**53
_NAME_CHARACTERS = 128
_BITS_PER_CHARACTER = 6  # of base64url
# By algorithm: the kind of its key, and its curve.
_KEYS: dict[str, tuple[type[RSAKey | ECKey | OKPKey], str, str | None]] = {
    "RS256": (RSAKey, "RSA", None),
    "PS256": (RSAKey, "RSA", None),
    "ES256": (ECKey, "EC", "P-256"),
    "EdDSA": (OKPKey, "OKP", "Ed25519"),
}
ALGORITHMS = tuple(_KEYS)


class IdentityError(Exception):
    """The token is not to be believed; the message is for the log and holds nothing of the token."""


class UnknownKeyError(IdentityError):
    """No key that is known could have signed it; a newer list of keys may have it."""


@record
class Expected:
    """What a token must say to be for us and for this sign-in."""

    issuer: str
    client: str
    nonce: str


@record
class Identity:
    """Somebody at a provider."""

    issuer: str
    subject: str
    email: str
    is_verified: bool
    name: str


def read(token: str, keys: Sequence[Mapping[str, Any]], expected: Expected, now: float) -> Identity:
    """Whom `token` is about. `keys`: the JWKs of its issuer. `now`: seconds of the epoch. Raises IdentityError."""
    claims = _signed(token, keys)
    if claims.get("iss") != expected.issuer:
        raise IdentityError("iss is another issuer")
    _check_audience(claims, expected.client)
    _check_times(claims, now)
    nonce = claims.get("nonce")
    if not isinstance(nonce, str) or not hmac.compare_digest(nonce.encode(), expected.nonce.encode()):
        raise IdentityError("nonce is not the one of this sign-in")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= SUBJECT_CHARACTERS_MAX or not subject.isprintable():
        raise IdentityError("sub names nobody")
    email, name = claims.get("email"), claims.get("name")
    return Identity(
        expected.issuer, subject, email if isinstance(email, str) else "", claims.get("email_verified") is True,
        name[:_NAME_CHARACTERS] if isinstance(name, str) and name.isprintable() else "",
    )  # fmt: skip


def _signed(token: str, keys: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if len(token) > TOKEN_CHARACTERS_MAX or not token.isascii():
        raise IdentityError(f"it has more than {TOKEN_CHARACTERS_MAX} characters, or strange ones")
    try:
        head = jws.extract_compact(token.encode()).headers()
    except (JoseError, ValueError) as error:
        raise IdentityError("it is no signed token") from error
    algorithm, kid = head.get("alg"), head.get("kid")
    if not isinstance(algorithm, str) or algorithm not in _KEYS:
        raise IdentityError(f"alg is none of {', '.join(ALGORITHMS)}")
    if "crit" in head or "b64" in head or head.get("typ", "JWT") not in ("JWT", "jwt"):
        raise IdentityError("its head asks for something else than an identity token")
    fitting = [key for key in keys[:KEYS_MAX] if _fits(key, algorithm, kid)]
    for key in fitting:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SecurityWarning)  # that RFC 9864 renames EdDSA
                imported: Any = _KEYS[algorithm][0].import_key(_public(key))
                claims: Mapping[str, Any] = jwt.decode(token, imported, algorithms=[algorithm]).claims
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        return claims
    # A key that has the name but did not sign is no reason to ask for others.
    if fitting and kid is not None:
        raise IdentityError("the signature is not of its key")
    raise UnknownKeyError("no known key has signed it")


def _fits(key: Mapping[str, Any], algorithm: str, kid: Any) -> bool:
    _, kind, curve = _KEYS[algorithm]
    if key.get("kty") != kind or (curve is not None and key.get("crv") != curve):
        return False
    if kid is not None and key.get("kid") != kid:
        return False
    if key.get("use", "sig") != "sig" or key.get("alg", algorithm) not in (algorithm, curve):
        return False
    return kind != "RSA" or len(str(key.get("n", ""))) * _BITS_PER_CHARACTER >= RSA_BITS_MIN


def _public(key: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """What checking takes of a key, and no more: the rest is what its publisher likes to add."""
    return {name: str(key[name]) for name in ("kty", "crv", "x", "y", "n", "e") if name in key}


def _check_audience(claims: Mapping[str, Any], client: str) -> None:
    audience = claims.get("aud")
    meant = [audience] if isinstance(audience, str) else audience
    if not isinstance(meant, list) or client not in meant:
        raise IdentityError("aud is somebody else")
    party = claims.get("azp")
    if (party is not None and party != client) or (party is None and len(meant) > 1):
        raise IdentityError("azp is somebody else")


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    ends, issued, begins = (
        _time(claims.get(name, default)) for name, default in (("exp", None), ("iat", None), ("nbf", 0))
    )
    if ends + SKEW_S <= now:
        raise IdentityError("it has expired")
    if max(issued, begins) - SKEW_S > now:
        raise IdentityError("it is of the future")


def _time(at: Any) -> float:
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < _TIME_MAX:
        raise IdentityError("exp, iat or nbf is no time")
    return float(at)
