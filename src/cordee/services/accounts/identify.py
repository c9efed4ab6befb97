"""Who asks: by an API key or an access token, and only with what its owner still may.

A token says what was granted when it was made; what its owner may today is asked of the database, so a user who was switched off or
has another role now, and a signing in that was ended, count at once.
"""

from __future__ import annotations

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.caller import ORDINARY, UNBOUNDED
from cordee.domain.record import record
from cordee.services.accounts import secrets_made
from cordee.services.accounts.records import User
from cordee.services.accounts.rules.rights import IDENTITY, scopes_of
from cordee.services.accounts.service import Actor, Service
from cordee.services.accounts.store import grants, people, programs
from cordee.services.accounts.tokens import TOKEN_CHARACTERS_MAX, Claims
from cordee.services.base.errors import Problem
from cordee.wire.vouch import Vouched

BEARER = "bearer "
_REFUSAL = "Show an API key or an access token that is in force: `Authorization: Bearer …`."


@record
class Shown:
    """What a request says of who asks: its Authorization headers, and keys in the headers that some clients send instead."""

    authorization: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


def refused() -> Problem:
    """The same for whatever is wrong."""
    return Problem(401, _REFUSAL, code="invalid_api_key")


async def identify(service: Service, shown: Shown) -> Actor:
    """Who shows this. Raises Problem: 401, which says the same whatever is wrong, and 400 for two different keys."""
    key = _one_of(shown)
    if key is None:
        raise refused()
    found = None
    if len(key) <= TOKEN_CHARACTERS_MAX:
        if key.startswith(secrets_made.API_KEY):
            found = await _by_key(service, key)
        else:
            await service.mint.keep()
            claims = service.mint.read(key)
            found = await by_claims(service, claims) if claims else None
    if found is None:
        raise refused()
    return found


def _one_of(shown: Shown) -> str | None:
    """The one key or token that is shown, as gateways read it: the same in several places is one, and two are none of ours to choose
    from."""
    if any(value[: len(BEARER)].lower() != BEARER for value in shown.authorization):
        return None
    found = {value[len(BEARER) :].strip() for value in shown.authorization} | set(shown.keys)
    if len(found) > 1:
        raise Problem(400, "Two different API keys or tokens were sent; send one.", "Authorization")
    return found.pop() if found else None


async def by_claims(service: Service, claims: Claims) -> Actor | None:
    """Who a token was made for, as far as it still holds."""
    async with service.database.reading() as on:
        if claims.family is None:
            application = await programs.application_of(on, claims.tenant, claims.subject)
            if application is None:
                return None
            return Actor(application.id, application.tenant, claims.scopes & application.scopes, None)
        family = await grants.family_of(on, claims.family)
        if family is None or family.revoked_at is not None or family.expires_at <= service.now():
            return None
        user = await people.user_of(on, claims.tenant, claims.subject)
        if user is None or not user.is_active or family.user != user.id:
            return None
        held = await held_by(on, user)
        return Actor(user.id, user.tenant, claims.scopes & (held | IDENTITY), user.role, family.id)


async def by_vouched(service: Service, said: Vouched) -> Actor | None:
    """Whom a gateway vouches for that has read a person's cookie: with what is still theirs, and without the sign-in, so that it ends
    and changes nothing that only who signed in may."""
    if not said.subject or said.key != said.subject:
        return None
    async with service.database.reading() as on:
        user = await people.user_of(on, said.tenant, said.subject)
        if user is None or not user.is_active:
            return None
        return Actor(user.id, user.tenant, said.scopes & (await held_by(on, user) | IDENTITY), user.role)


async def held_by(on: AsyncConnection, user: User) -> frozenset[str]:
    """What a user may do today."""
    tenant = await people.tenant_of(on, user.tenant)
    return scopes_of(user.role, tenant is not None and tenant.is_operator)


async def _by_key(service: Service, shown: str) -> Actor | None:
    if len(shown) > secrets_made.CHARACTERS_MAX:
        return None
    now = service.now()
    async with service.database.reading() as on:
        key = await programs.key_by_digest(on, secrets_made.digest(shown))
        if key is None or (key.expires_at is not None and key.expires_at <= now):
            return None
        bounds = UNBOUNDED if key.standing == ORDINARY else key.standing.bounds
        user = await people.user_of(on, key.tenant, key.owner)
        if user is not None:
            if not user.is_active:
                return None
            actor = Actor(user.id, key.tenant, key.scopes & await held_by(on, user), user.role, None, key.id, bounds)
        else:
            application = await programs.application_of(on, key.tenant, key.owner)
            if application is None:
                return None
            actor = Actor(application.id, key.tenant, key.scopes & application.scopes, None, None, key.id, bounds)
    if key.last_used_at is None or now - key.last_used_at >= service.settings.key_use_noted_s:
        async with service.database.writing() as on:
            await programs.note_use(on, key.id, now)
    return actor
