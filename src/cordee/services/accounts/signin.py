"""Signing in with a password, staying so with refresh tokens, and ending it.

A refresh token is used once; its answer holds the next one. Shown a second time, somebody else has it too, and nobody can tell who is
the thief: the whole family ends (RFC 9700, 4.14.2).
"""

from __future__ import annotations

import dataclasses
import math

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.accounts import secrets_made
from cordee.services.accounts.identify import held_by
from cordee.services.accounts.records import OWN_CLIENT, Family, User
from cordee.services.accounts.rules import lockout
from cordee.services.accounts.rules.rights import IDENTITY
from cordee.services.accounts.rules.words import email_of
from cordee.services.accounts.service import Actor, Service
from cordee.services.accounts.store import grants, people, safety
from cordee.services.base.errors import Problem
from cordee.services.base.identifiers import new


@record
class Issued:
    """Tokens as they are handed out. `expires_in`: seconds."""

    access: str
    refresh: str | None
    expires_in: int
    scopes: frozenset[str]
    identity: str | None = None


async def sign_in(service: Service, email: str, password: str) -> Issued:
    """A new family for who has this address and password. Raises Problem: 401 for both alike, 429 while the address is shut."""
    user = await prove(service, email, password)
    await service.mint.keep()
    async with service.changing() as on:
        scopes = await held_by(on, user)
        issued = await begin(service, on, user, None, scopes)
        await service.tell(on, "user.signed_in", user.id, user.tenant, user.id)
    return issued


async def prove(service: Service, email: str, password: str) -> User:
    """The active user with this address and password. Raises Problem: 401 for whatever is wrong, 429 while the address is shut."""
    known = email_of(email)
    mark = secrets_made.digest(f"email:{known or email}")
    delay_s = await _count(service, mark)
    async with service.database.reading() as on:
        user = await people.user_by_email(on, known) if known else None
    is_right, is_stale = await service.hasher.is_right(password, user.password_hash if user else None)
    if user is None or not is_right or not user.is_active:
        if user is not None and delay_s:
            async with service.changing() as on:
                await service.tell(on, "user.locked_out", user.id, user.tenant, user.id, {"seconds": delay_s})
        raise Problem(401, "There is no user with this address and password.", code="invalid_credentials")
    renewed = await service.hasher.make(password) if is_stale else None
    async with service.changing() as on:
        await safety.clear_failures(on, mark)
        if renewed is not None and (found := await people.user_of(on, user.tenant, user.id)) is not None:
            await people.change_user(on, dataclasses.replace(found, password_hash=renewed))
    return user


async def _count(service: Service, mark: str) -> float:
    """Count a try as failed before it is checked, so that many at once cannot all be free; a right password takes it back. Returns
    for how long the address is shut if this one is wrong. Raises Problem (429) while it is shut."""
    now, rules = service.now(), service.settings.lockout
    async with service.changing() as on:
        failed = await safety.hold_failures(on, mark, rules.addresses_max)
        if failed.shut_until > now:
            wait = math.ceil(failed.shut_until - now)
            raise Problem(
                429,
                f"Too many wrong passwords for this address; try again in {wait} s.",
                code="locked_out",
                retry_after_s=wait,
            )
        count = 1 + lockout.remembered(failed.count, failed.last_at, now, rules.forgotten_s)
        delay_s = lockout.delay_s(count, rules.free, rules.delay_s, rules.delay_s_max)
        await safety.put_failures(on, mark, safety.Failures(count, now, now + delay_s))
    return delay_s


async def begin(
    service: Service,
    on: AsyncConnection,
    user: User,
    application: str | None,
    scopes: frozenset[str],
    family_id: str | None = None,
) -> Issued:
    """A family and its first tokens."""
    now, tokens = service.now(), service.settings.tokens
    family = Family(family_id or new("family"), user.tenant, user.id, application, scopes, now, now + tokens.family_s)
    await grants.add_family(on, family)
    return await _next(service, on, family, user, scopes)


async def refresh(service: Service, shown: str, application: str | None) -> Issued | None:
    """The next tokens of a family. `application`: who shows it; None for our own sign-in. None for whatever is wrong."""
    now, digest = service.now(), secrets_made.digest(shown)
    await service.mint.keep()
    async with service.changing() as on:
        found = await grants.refresh_of(on, digest)
        if found is None:
            return None
        family, ends = found
        if family.application != application or family.revoked_at is not None or min(ends, family.expires_at) <= now:
            return None
        if not await grants.use_refresh(on, digest, now):
            await grants.revoke_family(on, family.id, now)
            await service.tell(on, "family.reused", family.id, family.tenant, family.user)
            return None
        user = await people.user_of(on, family.tenant, family.user)
        if user is None or not user.is_active:
            return None
        return await _next(service, on, family, user, family.scopes & (await held_by(on, user) | IDENTITY))


async def sign_out(service: Service, actor: Actor) -> None:
    """End the signing in that the actor came with. Raises Problem (400) if they came with a key."""
    if actor.family is None:
        raise Problem(
            400, "This was asked with a key, not after signing in; revoke the key instead.", code="not_signed_in"
        )
    async with service.changing() as on:
        await grants.revoke_family(on, actor.family, service.now())
        await service.tell(on, "user.signed_out", actor.id, actor.tenant, actor.id)


async def _next(service: Service, on: AsyncConnection, family: Family, user: User, scopes: frozenset[str]) -> Issued:
    tokens = service.settings.tokens
    shown = secrets_made.make(secrets_made.REFRESH)
    ends = min(service.now() + tokens.refresh_s, family.expires_at)
    await grants.add_refresh(on, secrets_made.digest(shown), family.id, ends)
    access = service.mint.access(
        user.id, user.tenant, family.application or OWN_CLIENT, scopes, family.id, user.role.value
    )
    return Issued(access, shown, tokens.access_s, scopes)
