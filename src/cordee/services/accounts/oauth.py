"""OAuth 2.1 for applications: the token endpoint with its grants, and what may be asked about a token afterwards.

Without the implicit and the password grant, without PKCE `plain`; an authorization code and a refresh token are used once. Errors are
those of RFC 6749, 5.2, and RFC 8628, 3.5.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hmac
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

from cordee.domain.record import record
from cordee.services.accounts import secrets_made, signin
from cordee.services.accounts.identify import by_claims, held_by
from cordee.services.accounts.records import OWN, OWN_CLIENT, Application, Device, User
from cordee.services.accounts.rules.grants import USER_CODE_LENGTH, USER_CODE_LETTERS, is_proof, user_code
from cordee.services.accounts.rules.rights import IDENTITY, SCOPES, Identity, beyond
from cordee.services.accounts.service import Service
from cordee.services.accounts.signin import Issued
from cordee.services.accounts.store import grants, people, programs
from cordee.services.base.errors import Problem
from cordee.services.base.identifiers import new

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"
GRANTS = ("authorization_code", "refresh_token", "client_credentials", DEVICE_GRANT)
_USER_CODE_TRIES = 5  # two devices at once rarely draw the same code; five times never


class OAuthProblem(Exception):
    """A *no* in OAuth's own words: `error` is one of the codes of the RFCs."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.status = status


@record
class Waiting:
    """What a device is told."""

    device_code: str
    user_code: str
    expires_in: int
    interval: int


async def client_of(service: Service, authorization: str | None, form: Mapping[str, str]) -> Application:
    """The application that asks, by HTTP Basic or in the form; a public one only names itself. Raises OAuthProblem."""
    name, secret = form.get("client_id"), form.get("client_secret")
    scheme, _, shown = (authorization or "").partition(" ")
    if scheme.lower() == "basic":
        if secret is not None:
            raise OAuthProblem("invalid_request", "Show the client's secret in one place only.")
        try:
            basic_name, _, basic_secret = base64.b64decode(shown, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError, ValueError) as error:
            raise _unknown_client() from error
        if name is not None and name != unquote_plus(basic_name):
            raise OAuthProblem("invalid_request", "client_id is not the one of the Authorization header.")
        name, secret = unquote_plus(basic_name), unquote_plus(basic_secret)
    if not name or len(name) > secrets_made.CHARACTERS_MAX or "\x00" in name:
        raise _unknown_client()
    async with service.database.reading() as on:
        found = await programs.client(on, name)
    presented = secrets_made.digest(secret or "")
    if found is None or (found.secret_digest is not None and not hmac.compare_digest(presented, found.secret_digest)):
        raise _unknown_client()
    return found


async def token(service: Service, client: Application, form: Mapping[str, str]) -> Issued:
    """The token endpoint. Raises OAuthProblem."""
    await service.mint.keep()
    match form.get("grant_type"):
        case "client_credentials":
            return _own(service, client, form)
        case "refresh_token":
            issued = await signin.refresh(service, _short(form, "refresh_token"), _named(client))
            if issued is None:
                raise OAuthProblem("invalid_grant", "This refresh token is not in force; let the user sign in again.")
            return issued
        case "authorization_code":
            return await _code(service, client, form)
        case kind if kind == DEVICE_GRANT:
            return await _device(service, client, _short(form, "device_code"))
        case _:
            raise OAuthProblem("unsupported_grant_type", f"grant_type must be one of {', '.join(GRANTS)}.")


async def wait_for(service: Service, client: Application, form: Mapping[str, str]) -> Waiting:
    """Let a device wait for somebody (RFC 8628). Raises OAuthProblem."""
    scopes, tokens = scopes_asked(client, form.get("scope")), service.settings.tokens
    for _ in range(_USER_CODE_TRIES):
        shown = secrets_made.make(secrets_made.DEVICE)
        code = user_code(tuple(secrets.randbelow(len(USER_CODE_LETTERS)) for _ in range(USER_CODE_LENGTH)))
        device = Device(secrets_made.digest(shown), code, client.id, scopes, service.now() + tokens.device_s)
        try:
            async with service.changing() as on:
                await grants.add_device(on, device)
        except people.TakenError:
            continue
        return Waiting(shown, code, tokens.device_s, tokens.device_poll_s)
    raise Problem(503, "No code was free; try again.", code="busy")


async def introspect(service: Service, client: Application, shown: str) -> dict[str, Any]:
    """What a token says, if it is in force and of the client's tenant (RFC 7662)."""
    await service.mint.keep()
    claims = service.mint.read(shown)
    if claims is not None:
        actor = await by_claims(service, claims) if claims.tenant == client.tenant else None
        if actor is None:
            return {"active": False}
        return {
            "active": True, "scope": " ".join(sorted(actor.scopes)), "client_id": claims.client, "sub": actor.id,
            "tenant": actor.tenant, "exp": int(claims.expires_at), "iat": int(claims.issued_at), "jti": claims.token,
            "iss": service.settings.issuer, "aud": service.settings.audience, "token_type": "Bearer",
        }  # fmt: skip
    async with service.database.reading() as on:
        found = await grants.refresh_of(on, secrets_made.digest(shown))
    if found is None or found[0].application != client.id:
        return {"active": False}
    family, ends = found
    if family.revoked_at is not None or min(ends, family.expires_at) <= service.now():
        return {"active": False}
    return {
        "active": True,
        "scope": " ".join(sorted(family.scopes)),
        "client_id": client.id,
        "sub": family.user,
        "exp": int(ends),
    }


async def revoke(service: Service, client: Application, shown: str) -> None:
    """End the family of one of the client's tokens; nothing happens for anything else (RFC 7009)."""
    await service.mint.keep()
    claims = service.mint.read(shown)
    async with service.changing() as on:
        if claims is not None:
            family = await grants.family_of(on, claims.family) if claims.family else None
        else:
            found = await grants.refresh_of(on, secrets_made.digest(shown))
            family = found[0] if found else None
        if family is not None and family.application == _named(client):
            await grants.revoke_family(on, family.id, service.now())
            await service.tell(on, "family.revoked", family.id, family.tenant, client.id)


def scopes_asked(client: Application, scope: str | None) -> frozenset[str]:
    """What is asked for, all the client may have when nothing is named. Raises OAuthProblem."""
    asked = frozenset((scope or "").split()) or client.scopes
    if strange := asked - SCOPES - IDENTITY:
        raise OAuthProblem("invalid_scope", f"There is no scope {min(strange)[:64]}.")
    if more := beyond(asked, client.scopes):
        raise OAuthProblem("invalid_scope", f"This application may not ask for {', '.join(more)}.")
    return asked


def facts(user: User, scopes: frozenset[str]) -> dict[str, Any]:
    """What a client learns of a user by OpenID Connect's scopes."""
    told: dict[str, Any] = {"tenant": user.tenant}
    if Identity.EMAIL in scopes:
        told |= {"email": user.email, "email_verified": False}
    if Identity.PROFILE in scopes:
        told |= {"name": user.name}
    return told


def _own(service: Service, client: Application, form: Mapping[str, str]) -> Issued:
    if client.secret_digest is None:
        raise OAuthProblem("unauthorized_client", "An application without a secret cannot act for itself.")
    scopes = scopes_asked(client, form.get("scope")) - IDENTITY
    access = service.mint.access(client.id, client.tenant, client.id, scopes, None, None)
    return Issued(access, None, service.settings.tokens.access_s, scopes)


async def _code(service: Service, client: Application, form: Mapping[str, str]) -> Issued:
    digest, now = secrets_made.digest(_short(form, "code")), service.now()
    verifier, redirect = _short(form, "code_verifier"), form.get("redirect_uri")
    refusal = OAuthProblem(
        "invalid_grant", "This code is not in force for this client, redirect_uri and code_verifier."
    )
    async with service.changing() as on:
        code = await grants.code_of(on, digest)
        if code is None or code.application != client.id:
            raise refusal
        family = new("family")
        is_meant = (
            code.expires_at > now and redirect in (None, code.redirect_uri) and is_proof(verifier, code.challenge)
        )
        # A wrong proof uses the code up as well: whoever holds it without the verifier has stolen it.
        is_first = await grants.use_code(on, digest, family, now)
        issued = None
        if not is_first and code.family is not None:
            await grants.revoke_family(on, code.family, now)  # what a first fetch was given may be a thief's
        elif is_first and is_meant:
            issued = await _for_user(service, on, client, code.user, code.scopes, code.nonce, family)
    if issued is None:
        raise refusal
    return issued


async def _device(service: Service, client: Application, shown: str) -> Issued:
    digest, now = secrets_made.digest(shown), service.now()
    issued, refusal = None, OAuthProblem("expired_token", "This device code is not in force; begin again.")
    async with service.changing() as on:
        device = await grants.device_of(on, digest)
        if device is None or device.application != client.id or device.expires_at <= now:
            pass
        elif device.polled_at is not None and now - device.polled_at < service.settings.tokens.device_poll_s:
            refusal = OAuthProblem("slow_down", f"Ask once in {service.settings.tokens.device_poll_s} s.")
        elif device.is_allowed is None:
            await grants.note_poll(on, digest, now)
            refusal = OAuthProblem("authorization_pending", "Nobody has answered yet.")
        elif await grants.take_device(on, digest):
            if device.is_allowed and device.user is not None:
                issued = await _for_user(service, on, client, device.user, device.scopes, None, new("family"))
            refusal = OAuthProblem("access_denied", "This was not allowed.")
    if issued is None:
        raise refusal
    return issued


async def _for_user(
    service: Service, on: Any, client: Application, user_id: str, scopes: frozenset[str], nonce: str | None, family: str
) -> Issued | None:
    is_own = client.id == OWN_CLIENT
    user = await (people.user_by_id(on, user_id) if is_own else people.user_of(on, client.tenant, user_id))
    if user is None or not user.is_active:
        return None
    held = scopes & (await held_by(on, user) | IDENTITY)
    issued = await signin.begin(service, on, user, _named(client), held, family)
    await service.tell(on, "user.signed_in", user.id, user.tenant, user.id, {"application": client.id})
    if Identity.OPENID in held:
        identity = service.mint.identity(user.id, client.id, facts(user, held), nonce)
        return dataclasses.replace(issued, identity=identity)
    return issued


def _named(client: Application) -> str | None:
    """The application of a family: None for our own."""
    return None if client is OWN else client.id


def _short(form: Mapping[str, str], name: str) -> str:
    value = form.get(name)
    if not value or len(value) > secrets_made.CHARACTERS_MAX:
        raise OAuthProblem(
            "invalid_request", f"{name} is required, with up to {secrets_made.CHARACTERS_MAX} characters."
        )
    return value


def _unknown_client() -> OAuthProblem:
    return OAuthProblem("invalid_client", "There is no application with this client_id and secret.", 401)
