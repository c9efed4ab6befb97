"""Access and identity tokens: JWTs signed with Ed25519, by keys that are made, published and dropped in time.

An access token says who (`sub`), for which tenant, with which scopes, by which signing in (`sid`), for ten minutes: gateways believe
it from the published keys alone. The set of keys is read from the database now and then, so all processes sign with the same one.
Of what comes in, only what this file itself makes is read: this algorithm, this type, a key that is published (RFC 8725, RFC 9068).
"""

from __future__ import annotations

import json
import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from joserfc import jws, jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import OKPKey

from cordee.config.sections.services import Accounts
from cordee.domain.record import record
from cordee.services.accounts.rules.rotation import Dates, Plan, plan
from cordee.services.accounts.store.safety import (
    SigningKey,
    add_signing_key,
    hold_signing_keys,
    remove_signing_keys,
    signing_keys_of,
)
from cordee.services.base.database import Database
from cordee.services.base.seal import Seal

ALGORITHM = "EdDSA"  # the name that verifiers know; RFC 9864 calls the same thing Ed25519
ACCESS_TYPE = "at+jwt"
IDENTITY_TYPE = "JWT"
TOKEN_CHARACTERS_MAX = 4096
LOOK_S = 30.0  # between two looks at the keys in the database
_JTI_BYTES = 16
_TIME_MAX = 2.0**53
_HEADERS = frozenset({"alg", "typ", "kid"})


@record
class Claims:
    """What an access token says. `family` and `role` are None for an application that acts for itself."""

    subject: str
    tenant: str
    client: str
    scopes: frozenset[str]
    family: str | None
    role: str | None
    token: str
    issued_at: float
    expires_at: float


class Mint:
    """Signs and reads tokens. `keep` before the first use; it is cheap until the next look is due."""

    def __init__(self, settings: Accounts, database: Database, seal: Seal, now: Callable[[], float]) -> None:
        self._settings = settings
        self._database = database
        self._seal = seal
        self._now = now
        self._keys: list[SigningKey] = []
        self._opened: dict[str, OKPKey] = {}
        self._looked_at: float | None = None

    async def keep(self) -> None:
        """Follow the keys in the database; make and drop some when it is time. Raises AwayError, and DatabaseError for keys that
        were sealed with another secret."""
        now = self._now()
        if self._looked_at is not None and now - self._looked_at < LOOK_S and self._keys:
            return
        async with self._database.reading() as on:
            keys = await signing_keys_of(on)
        due = self._due(keys, now)
        if due.next_signs_from is not None or due.gone:
            # Planned anew where nobody else can plan: of two processes that start together one makes the first key, and the other
            # finds it. Were there two, each would refuse for a while what the other signed.
            async with self._database.writing() as on:
                await hold_signing_keys(on)
                due = self._due(await signing_keys_of(on), now)
                if due.next_signs_from is not None:
                    await add_signing_key(on, self._made(due.next_signs_from))
                if due.gone:
                    await remove_signing_keys(on, due.gone)
                keys = await signing_keys_of(on)
        self._keys, self._looked_at = keys, now
        self._opened = {kid: key for kid, key in self._opened.items() if any(kid == k.kid for k in keys)}

    def _due(self, keys: Sequence[SigningKey], now: float) -> Plan:
        tokens = self._settings.tokens
        dates = [Dates(key.kid, key.signs_from) for key in keys]
        return plan(dates, now, tokens.key_signs_s, tokens.key_published_s, tokens.access_s)

    def published(self) -> list[dict[str, Any]]:
        """The keys as JWKs, public halves only."""
        return [key.public for key in self._keys]

    def access(
        self, subject: str, tenant: str, client: str, scopes: frozenset[str], family: str | None, role: str | None
    ) -> str:
        """An access token. `client`: the application it is for, or the issuer's own sign-in."""
        now = int(self._now())
        claims: dict[str, Any] = {
            "iss": self._settings.issuer, "aud": self._settings.audience, "sub": subject, "client_id": client,
            "tenant": tenant, "scope": " ".join(sorted(scopes)), "iat": now, "exp": now + self._settings.tokens.access_s,
            "jti": secrets.token_hex(_JTI_BYTES),
        }  # fmt: skip
        if family is not None:
            claims |= {"sid": family}
        if role is not None:
            claims |= {"role": role}
        return self._signed(ACCESS_TYPE, claims)

    def identity(self, subject: str, client: str, facts: Mapping[str, Any], nonce: str | None) -> str:
        """An OpenID Connect identity token for an application."""
        now = int(self._now())
        claims: dict[str, Any] = {
            "iss": self._settings.issuer, "aud": client, "sub": subject, "iat": now, "auth_time": now,
            "exp": now + self._settings.tokens.access_s, **facts,
        }  # fmt: skip
        if nonce is not None:
            claims["nonce"] = nonce
        return self._signed(IDENTITY_TYPE, claims)

    def read(self, token: str) -> Claims | None:
        """What an access token of ours says; None for anything else, whatever is wrong with it."""
        if len(token) > TOKEN_CHARACTERS_MAX or not token.isascii():
            return None
        try:
            header = jws.extract_compact(token.encode()).headers()
        except (JoseError, ValueError):
            return None
        # Checked before any key is looked at: nothing in a header may choose the key or the algorithm.
        if set(header) != _HEADERS or header["alg"] != ALGORITHM or header["typ"] != ACCESS_TYPE:
            return None
        key = next((key for key in self._keys if key.kid == header["kid"]), None)
        if key is None:
            return None
        try:
            with _quiet():
                claims = jwt.decode(token, OKPKey.import_key(key.public), algorithms=[ALGORITHM]).claims
        except (JoseError, ValueError):
            return None
        return self._believed(claims)

    def _believed(self, claims: Mapping[str, Any]) -> Claims | None:
        issued, ends = claims.get("iat"), claims.get("exp")
        if type(issued) is not int or type(ends) is not int or not 0 <= issued < ends < _TIME_MAX:
            return None
        if not issued <= self._now() + 1 or ends <= self._now():
            return None
        if claims.get("iss") != self._settings.issuer or claims.get("aud") != self._settings.audience:
            return None
        words = [claims.get(name) for name in ("sub", "tenant", "client_id", "scope", "jti")]
        if not all(isinstance(word, str) for word in words):
            return None
        subject, tenant, client, scope, jti = (str(word) for word in words)
        return Claims(
            subject, tenant, client, frozenset(scope.split()), claims.get("sid"), claims.get("role"), jti, issued, ends
        )

    def _signed(self, kind: str, claims: dict[str, Any]) -> str:
        kid = self._due(self._keys, self._now()).signer
        assert kid is not None, "keep() comes before the first token"
        key = self._opened.get(kid)
        if key is None:
            sealed = next(one.sealed for one in self._keys if one.kid == kid)
            key = self._opened[kid] = OKPKey.import_key(json.loads(self._seal.open(kid, sealed)))
        with _quiet():
            return jwt.encode({"alg": ALGORITHM, "typ": kind, "kid": kid}, claims, key, algorithms=[ALGORITHM])

    def _made(self, signs_from: float) -> SigningKey:
        key = OKPKey.generate_key("Ed25519", {"use": "sig", "alg": ALGORITHM}, auto_kid=True)
        kid = str(key.kid)
        sealed = self._seal.close(kid, json.dumps(key.as_dict(private=True)).encode())
        return SigningKey(kid, signs_from, sealed, dict(key.as_dict(private=False)))


class _quiet(warnings.catch_warnings):
    """joserfc warns at every use that RFC 9864 renames the algorithm. Only the event loop's thread signs and reads."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore", SecurityWarning)
        return entered
