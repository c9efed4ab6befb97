"""Signing in at a provider outside, on the way to allowing an application or a device to act for one.

Three steps: the person leaves for the provider, comes back with a code, and answers what they were asked. State, nonce and PKCE verifier
tie them together with a cookie, so that what was begun in one browser cannot be ended in another (RFC 9700, 2.1 and 4.7). The answer is
asked for on a page of its own: a provider signs people in without asking, so a link alone would be enough to have an application allowed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping

from cordee.config.sections.services import Provider as Settings
from cordee.domain.record import record
from cordee.services.accounts import consent, secrets_made
from cordee.services.accounts.membership import INSTALLATION
from cordee.services.accounts.providers.identity import Identity
from cordee.services.accounts.providers.provider import Provider
from cordee.services.accounts.records import User
from cordee.services.accounts.rules.rights import Role
from cordee.services.accounts.rules.words import email_of
from cordee.services.accounts.service import Service
from cordee.services.accounts.store import outside, people
from cordee.services.accounts.store.outside import SignIn
from cordee.services.base.errors import Problem
from cordee.services.base.identifiers import new

USER_CODE = "user_code"
CODE_CHARACTERS_MAX = 4096  # of a provider's code
ASKED_CHARACTERS_MAX = 4096  # of what is kept of a request meanwhile
_RANDOM_BYTES = 32


@record
class Step:
    """What the next request must show: `shown` in its parameters, `cookie` as the cookie `name`."""

    shown: str
    cookie: str

    @property
    def name(self) -> str:
        return cookie_of(self.shown)


@record
class Back:
    """Somebody who has come back: whom they are here, what they are asked, and the step of their answer."""

    step: Step
    user: User
    asked: dict[str, str]


def cookie_of(shown: str) -> str:
    """The name of the cookie of a step: each has its own, so that two windows do not disturb each other."""
    return f"cordee-sign-in-{secrets_made.digest(shown)[:8]}"


async def begin(service: Service, provider: Provider, query: Mapping[str, str]) -> tuple[Step, str]:
    """The step of coming back, and where the person goes. `query`: of the authorization endpoint, or a device's code. Raises Problem,
    SentBack, OAuthProblem."""
    if USER_CODE in query:
        device, _ = await consent.device_asked(service, query[USER_CODE])
        asked = {USER_CODE: device.user_code}
    else:
        await consent.read(service, query)
        asked = {name: query[name] for name in consent.PARAMETERS if name in query}
    if len(json.dumps(asked)) > ASKED_CHARACTERS_MAX:
        raise Problem(400, f"The request has more than {ASKED_CHARACTERS_MAX} characters.")
    step = _step()
    verifier, nonce = _derived(step)
    challenge = _encoded(hashlib.sha256(verifier.encode()).digest())
    uri = await provider.leave_for(redirect_of(service, provider.name), step.shown, nonce, challenge)
    await _keep(service, provider.name, step, asked, None)
    return step, uri


async def back(service: Service, provider: Provider, query: Mapping[str, str], cookie: str) -> Back:
    """Somebody comes back from the provider. `cookie`: that of the step. Raises Problem."""
    step = Step(query.get("state", ""), cookie)
    taken = await _take(service, provider.name, step, is_back=False)
    await provider.check_sender(query.get("iss"))
    code = query.get("code", "")
    if "error" in query or not 0 < len(code) <= CODE_CHARACTERS_MAX:
        raise Problem(403, f"{provider.title} did not sign you in.", code="access_denied")
    verifier, nonce = _derived(step)
    identity = await provider.who(code, redirect_of(service, provider.name), verifier, nonce)
    user = await _user(service, provider, identity)
    following = _step()
    await _keep(service, provider.name, following, taken.asked, user.id)
    return Back(following, user, taken.asked)


async def answering(service: Service, provider: Provider, ticket: str, cookie: str) -> tuple[User, dict[str, str]]:
    """Who answers, and what they were asked; once. Raises Problem."""
    taken = await _take(service, provider.name, Step(ticket, cookie), is_back=True)
    assert taken.user is not None, "who is back is somebody"
    async with service.database.reading() as on:
        user = await people.user_by_id(on, taken.user)
    if user is None or not user.is_active:
        raise _shut_out()
    return user, taken.asked


def redirect_of(service: Service, name: str) -> str:
    """Where the provider sends people back to; it is registered there."""
    return f"{service.settings.issuer}/oauth/providers/{name}/callback"


async def _user(service: Service, provider: Provider, identity: Identity) -> User:
    """The user this is, made at the first time. Raises Problem."""
    settings = provider.settings
    email = _address(provider, identity)
    try:
        async with service.changing() as on:
            if await people.hold_tenant(on, settings.tenant) is None:
                raise Problem(
                    503, "Signing in there is not set up on this server; tell its operator.", code="not_set_up"
                )
            known = await outside.user_of(on, identity.issuer, identity.subject)
            if known is not None:
                user = await people.user_of(on, settings.tenant, known)
                if user is None or not user.is_active:
                    raise _shut_out()
                return user
            user = await people.user_by_email(on, email)
            told = {"provider": provider.name}
            if user is None:
                user = _made(service, settings, identity, email)
                await people.add_user(on, user)
                await service.tell(
                    on, "user.created", user.id, user.tenant, INSTALLATION, {**told, "role": user.role.value}
                )
            elif settings.takes_over and user.tenant == settings.tenant and user.is_active:
                await service.tell(
                    on, "user.changed", user.id, user.tenant, INSTALLATION, {**told, "changed": ["identities"], "role": user.role.value},
                )  # fmt: skip
            else:
                raise Problem(
                    403, "There is a user with your address already; sign in with their password.", code="address_taken"
                )
            await outside.add_identity(on, identity.issuer, identity.subject, user.id, service.now())
            return user
    except people.TakenError as error:
        raise Problem(409, "You are signing in twice at once; begin again.", code="conflict") from error


def _address(provider: Provider, identity: Identity) -> str:
    email, settings = email_of(identity.email), provider.settings
    if email is None or not (identity.is_verified or settings.trusts_addresses):
        raise Problem(403, f"{provider.title} has not verified your e-mail address.", code="address_not_verified")
    if not {"*", email.rpartition("@")[2]} & set(settings.domains):
        raise Problem(403, "People with your e-mail address are not let in here.", code="address_not_allowed")
    return email


def _made(service: Service, settings: Settings, identity: Identity, email: str) -> User:
    # Without a password: an empty hash is one that no password has.
    return User(
        new("user"), settings.tenant, email, identity.name or email[:128], Role(settings.role), "", service.now()
    )


def _shut_out() -> Problem:
    return Problem(403, "You may not sign in here any more.", code="access_denied")


def _step() -> Step:
    return Step(secrets.token_urlsafe(_RANDOM_BYTES), secrets.token_urlsafe(_RANDOM_BYTES))


def _derived(step: Step) -> tuple[str, str]:
    """PKCE verifier and nonce: of state and cookie together, so that only this browser has them and no database does."""
    return (
        _encoded(hashlib.sha256(f"verifier:{step.shown}:{step.cookie}".encode()).digest()),
        _encoded(hashlib.sha256(f"nonce:{step.shown}:{step.cookie}".encode()).digest()),
    )


def _encoded(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


async def _keep(service: Service, provider: str, step: Step, asked: dict[str, str], user: str | None) -> None:
    tokens = service.settings.tokens
    one = SignIn(
        secrets_made.digest(step.shown), provider, secrets_made.digest(step.cookie), asked,
        service.now() + tokens.provider_s, user,
    )  # fmt: skip
    async with service.database.writing() as on:
        await outside.add_sign_in(on, one, tokens.provider_waiting_max)


async def _take(service: Service, provider: str, step: Step, *, is_back: bool) -> SignIn:
    async with service.database.writing() as on:
        taken = await outside.take_sign_in(
            on, secrets_made.digest(step.shown), provider, secrets_made.digest(step.cookie), service.now(), is_back=is_back
        )  # fmt: skip
    if taken is None:
        raise Problem(
            400, "This sign-in was not begun in this browser, has been used, or took too long; begin again.",
            "state", "invalid_state",
        )  # fmt: skip
    return taken
