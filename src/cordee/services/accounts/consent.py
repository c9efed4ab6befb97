"""A user lets an application or a device act for them: what is asked is checked before anything is shown or sent anywhere.

Until the application and its redirect are known to belong together nothing is sent there: an error is told to the person instead, so
this is no open redirect (RFC 9700, 4.11). Users allow only what is of their own tenant.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from cordee.domain.record import record
from cordee.services.accounts import secrets_made
from cordee.services.accounts.identify import held_by
from cordee.services.accounts.oauth import OAuthProblem, scopes_asked
from cordee.services.accounts.records import OWN, Application, Code, Device, User
from cordee.services.accounts.rules.grants import (
    CHALLENGE_PATTERN,
    REDIRECT_CHARACTERS_MAX,
    is_redirect_of,
    read_user_code,
    with_parameters,
)
from cordee.services.accounts.rules.rights import IDENTITY
from cordee.services.accounts.service import Service
from cordee.services.accounts.store import grants, people, programs
from cordee.services.base.errors import Problem

STATE_CHARACTERS_MAX = 512
NONCE_CHARACTERS_MAX = 256
# What an application says to the authorization endpoint.
PARAMETERS = (
    *(
        "client_id",
        "redirect_uri",
        "response_type",
        "scope",
        "state",
        "code_challenge",
        "code_challenge_method",
        "nonce",
    ),
)
_VISIBLE = re.compile(r"[\x20-\x7e]*")


@record
class Asked:
    """What an application asks a user for."""

    application: Application
    redirect_uri: str
    scopes: frozenset[str]
    state: str | None
    challenge: str
    nonce: str | None


class SentBack(Exception):
    """The application is told, at `uri`, that its request cannot be meant."""

    def __init__(self, uri: str) -> None:
        super().__init__("the request is sent back to its application")
        self.uri = uri


async def read(service: Service, query: Mapping[str, str]) -> Asked:
    """The parameters of the authorization endpoint. Raises Problem, to be shown to the person, and SentBack."""
    name, redirect = query.get("client_id", ""), query.get("redirect_uri", "")
    async with service.database.reading() as on:
        usable = 0 < len(name) <= secrets_made.CHARACTERS_MAX and "\x00" not in name
        application = await programs.client(on, name) if usable else None
    if application is None:
        raise Problem(400, "There is no application with this client_id.", "client_id", "invalid_client")
    if len(redirect) > REDIRECT_CHARACTERS_MAX or not is_redirect_of(redirect, application.redirect_uris):
        raise Problem(
            400, "This redirect_uri is not one that the application registered.", "redirect_uri", "invalid_redirect_uri"
        )
    state, nonce = query.get("state"), query.get("nonce")
    if len(state or "") > STATE_CHARACTERS_MAX or not _VISIBLE.fullmatch(state or ""):
        raise Problem(400, f"state: up to {STATE_CHARACTERS_MAX} ASCII characters.", "state")
    if query.get("response_type") != "code":
        raise _back(service, redirect, state, "unsupported_response_type", "response_type must be code.")
    challenge = query.get("code_challenge", "")
    if query.get("code_challenge_method") != "S256" or not re.fullmatch(CHALLENGE_PATTERN, challenge):
        raise _back(service, redirect, state, "invalid_request", "PKCE is required, with code_challenge_method=S256.")
    if len(nonce or "") > NONCE_CHARACTERS_MAX or not _VISIBLE.fullmatch(nonce or ""):
        raise _back(
            service, redirect, state, "invalid_request", f"nonce: up to {NONCE_CHARACTERS_MAX} ASCII characters."
        )
    try:
        scopes = scopes_asked(application, query.get("scope"))
    except OAuthProblem as problem:
        raise _back(service, redirect, state, problem.error, problem.description) from problem
    return Asked(application, redirect, scopes, state, challenge, nonce)


async def allow(service: Service, asked: Asked, user: User) -> str:
    """Where the person goes next, with a code for the application. Raises Problem."""
    _of_tenant(asked.application, user)
    shown = secrets_made.make(secrets_made.CODE)
    async with service.database.writing() as on:
        held = asked.scopes & (await held_by(on, user) | IDENTITY)
        await grants.add_code(
            on,
            Code(
                secrets_made.digest(shown), user.id, asked.application.id, asked.redirect_uri, asked.challenge, held, asked.nonce,
                service.now() + service.settings.tokens.code_s,
            ),
        )  # fmt: skip
        await service.tell(
            on, "application.allowed", asked.application.id, user.tenant, user.id, {"scopes": sorted(held)}
        )
    return _answer(service, asked.redirect_uri, asked.state, {"code": shown})


def deny(service: Service, asked: Asked) -> str:
    """Where the person goes next."""
    return _answer(service, asked.redirect_uri, asked.state, {"error": "access_denied"})


async def device_asked(service: Service, typed: str) -> tuple[Device, Application]:
    """The device behind a code that a person typed. Raises Problem (404)."""
    code = read_user_code(typed)
    async with service.database.reading() as on:
        device = await grants.device_by_user_code(on, code) if code else None
        application = await programs.client(on, device.application) if device else None
    if device is None or application is None or device.expires_at <= service.now() or device.is_allowed is not None:
        raise Problem(404, "No device waits with this code; look at its screen again.", "user_code", "not_found")
    return device, application


async def answer_device(service: Service, typed: str, user: User, is_allowed: bool) -> None:
    """Let the device go on, or not. Raises Problem."""
    device, application = await device_asked(service, typed)
    _of_tenant(application, user)
    async with service.database.writing() as on:
        if not await grants.answer_device(on, device.digest, user.id, is_allowed):
            raise Problem(409, "Somebody has answered this device already.", "user_code", "conflict")
        what = "device.allowed" if is_allowed else "device.denied"
        await service.tell(on, what, application.id, user.tenant, user.id, {"scopes": sorted(device.scopes)})


async def user_who(service: Service, tenant: str, user_id: str) -> User | None:
    async with service.database.reading() as on:
        return await people.user_of(on, tenant, user_id)


def _of_tenant(application: Application, user: User) -> None:
    if application is not OWN and application.tenant != user.tenant:
        raise Problem(403, "This application is not one of your tenant's.", "client_id", "other_tenant")


def _back(service: Service, redirect: str, state: str | None, error: str, description: str) -> SentBack:
    return SentBack(_answer(service, redirect, state, {"error": error, "error_description": description}))


def _answer(service: Service, redirect: str, state: str | None, parameters: dict[str, str]) -> str:
    # `iss` tells the application which provider answers (RFC 9207), against mix-ups.
    return with_parameters(
        redirect, parameters | ({} if state is None else {"state": state}) | {"iss": service.settings.issuer}
    )
