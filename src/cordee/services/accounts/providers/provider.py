"""One provider: what it says of itself, its keys, and codes turned into who somebody is.

Its description and keys are read when first needed and kept for a while. A key that is not known is looked for once in a while, not once
for every token that names one; and a provider that fails is left alone for as long.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote_plus, urlsplit

import httpx

from cordee.config.sections.services import Provider as Settings
from cordee.domain.record import record
from cordee.services.accounts.providers.asking import SECURE, Asker, ProviderError, is_guarded
from cordee.services.accounts.providers.identity import Expected, Identity, IdentityError, UnknownKeyError, read
from cordee.services.accounts.rules.grants import with_parameters
from cordee.services.base.errors import Problem

SCOPES = "openid email profile"
DISCOVERY = "/.well-known/openid-configuration"  # OpenID Connect Discovery 1.0, 4
_NEVER = float("-inf")
_log = logging.getLogger(__name__)


@record
class Described:
    """What a provider says of itself. `has_basic`: it takes its clients' secrets by HTTP Basic. `names_itself`: its answers say `iss`."""

    authorization: str
    token: str
    keys: str
    has_basic: bool
    names_itself: bool


class Provider:
    """One of the configuration. `now`: seconds of the epoch. `close` at the end."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        now: Callable[[], float],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.name = name
        self.settings = settings
        self._now = now
        self._asker = Asker(settings, transport)
        self._secret = os.environ.get(settings.client_secret_env, "") if settings.client_secret_env else ""
        if settings.client_secret_env and not self._secret:
            _log.error(
                "provider %s: the environment has no %s, so nobody can sign in there", name, settings.client_secret_env
            )
        self._reading = asyncio.Lock()
        self._described: Described | None = None
        self._described_at = _NEVER
        self._keys: Sequence[Mapping[str, Any]] = ()
        self._keys_at = _NEVER
        self._failed_at = _NEVER

    async def leave_for(self, redirect: str, state: str, nonce: str, challenge: str) -> str:
        """Where a person signs in there. Raises Problem (503)."""
        described = await self._description()
        return with_parameters(
            described.authorization,
            {
                "response_type": "code", "client_id": self.settings.client_id, "redirect_uri": redirect, "scope": SCOPES,
                "state": state, "nonce": nonce, "code_challenge": challenge, "code_challenge_method": "S256",
            },
        )  # fmt: skip

    async def check_sender(self, issuer: str | None) -> None:
        """Whether an answer comes from here (RFC 9207): of two providers one may pass another's answer on. Raises Problem."""
        described = await self._description()
        if issuer != self.settings.issuer and (issuer is not None or described.names_itself):
            raise self._not_believed("the answer's iss is another issuer")

    async def who(self, code: str, redirect: str, verifier: str, nonce: str) -> Identity:
        """Who signed in there. Raises Problem: 400 for a code that is worth nothing or a token that is not believed, 503 while the
        provider is away."""
        described = await self._description()
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": redirect, "code_verifier": verifier,
            "client_id": self.settings.client_id,
        }  # fmt: skip
        login = None
        if self._secret and described.has_basic:
            login = (quote_plus(self.settings.client_id), quote_plus(self._secret))  # RFC 6749, 2.3.1
        elif self._secret:
            form["client_secret"] = self._secret
        try:
            status, said = await self._asker.post(described.token, form, login)
        except ProviderError as error:
            raise self._away(error) from error
        token = said.get("id_token")
        if status != httpx.codes.OK or not isinstance(token, str):
            raise self._not_believed(f"the code got {status} {str(said.get('error'))[:64]!r} and no identity token")
        return await self._believed(token, Expected(self.settings.issuer, self.settings.client_id, nonce))

    async def close(self) -> None:
        await self._asker.close()

    async def _believed(self, token: str, expected: Expected) -> Identity:
        try:
            try:
                return read(token, await self._known_keys(self.settings.kept_s), expected, self._now())
            except UnknownKeyError:
                return read(token, await self._known_keys(self.settings.refresh_s), expected, self._now())
        except IdentityError as error:
            raise self._not_believed(str(error)) from error

    async def _description(self) -> Described:
        self._check_set_up()
        async with self._reading:
            if self._described is None or self._now() - self._described_at >= self.settings.kept_s:
                said = await self._read(self.settings.issuer.rstrip("/") + DISCOVERY)
                try:
                    self._described = described_by(said, self.settings.issuer)
                except ProviderError as error:
                    raise self._away(error) from error
                self._described_at = self._now()
            return self._described

    async def _known_keys(self, age_s: float) -> Sequence[Mapping[str, Any]]:
        """Keys that were read at most `age_s` ago."""
        described = await self._description()
        async with self._reading:
            if self._now() - self._keys_at >= age_s:
                found = (await self._read(described.keys)).get("keys")
                self._keys = [key for key in found if isinstance(key, dict)] if isinstance(found, list) else []
                self._keys_at = self._now()
            return self._keys

    async def _read(self, url: str) -> dict[str, Any]:
        if self._now() - self._failed_at < self.settings.refresh_s:
            raise self._away(None)
        try:
            return await self._asker.get(url)
        except ProviderError as error:
            raise self._away(error) from error

    def _check_set_up(self) -> None:
        if self.settings.client_secret_env and not self._secret:
            raise Problem(503, "Signing in there is not set up on this server; tell its operator.", code="not_set_up")

    def _away(self, error: ProviderError | None) -> Problem:
        if error is not None:
            self._failed_at = self._now()
            _log.warning("provider %s: %s", self.name, error)
        again_s = max(1, int(self.settings.refresh_s))
        return Problem(
            503, f"{self.title} does not answer; try again in {again_s} s, or sign in with your password.",
            code="provider_away", retry_after_s=again_s,
        )  # fmt: skip

    def _not_believed(self, reason: str) -> Problem:
        _log.warning("provider %s: a sign-in was refused: %s", self.name, reason)
        return Problem(400, f"This sign-in at {self.title} is not valid; begin again.", code="invalid_sign_in")

    @property
    def title(self) -> str:
        return self.settings.title or self.name


def described_by(said: Mapping[str, Any], issuer: str) -> Described:
    """A discovery document, if it is the issuer's own. Raises ProviderError."""
    if said.get("issuer") != issuer:
        raise ProviderError(f"its description is of the issuer {str(said.get('issuer'))[:200]!r}, not {issuer}")
    found = [said.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
    # Who is asked over the network must not send us to what listens on this host only.
    schemes = {SECURE, urlsplit(issuer).scheme}
    if not all(isinstance(url, str) and is_guarded(url) and urlsplit(url).scheme in schemes for url in found):
        raise ProviderError("its description lacks an endpoint, or names one that is not https")
    authorization, token, keys = (str(url) for url in found)
    methods = said.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return Described(
        authorization, token, keys, isinstance(methods, list) and "client_secret_basic" in methods,
        said.get("authorization_response_iss_parameter_supported") is True,
    )  # fmt: skip
