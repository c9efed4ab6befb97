"""API keys are made, limited and taken away. A key never holds more than who makes it and whom it is for."""

from __future__ import annotations

import dataclasses

from cordee.domain.caller import ORDINARY, UNLIMITED, Allowances, Standing
from cordee.domain.record import record
from cordee.services.accounts import secrets_made
from cordee.services.accounts.identify import held_by
from cordee.services.accounts.records import ApiKey, Tenant
from cordee.services.accounts.rules.rights import Scope, beyond, may_appoint
from cordee.services.accounts.rules.standing import NONE, Wish, both, fault_of, stood
from cordee.services.accounts.service import Actor, Service
from cordee.services.accounts.store import people, programs
from cordee.services.base.errors import Problem, conflict, not_found
from cordee.services.base.identifiers import new
from cordee.services.base.paging import Page


@record
class Wanted:
    """A key to be. `owner`: a user or application; None: the actor."""

    name: str
    scopes: frozenset[str]
    owner: str | None = None
    expires_at: float | None = None
    allowances: Allowances = UNLIMITED
    standing: Wish = NONE


async def add_key(service: Service, actor: Actor, wanted: Wanted) -> tuple[str, ApiKey]:
    """The key, which is never seen again, and its record. Raises Problem."""
    actor.need(Scope.KEYS_WRITE)
    owner = wanted.owner or actor.id
    if owner != actor.id:
        actor.need(Scope.KEYS_MANAGE)
    _expires(service, wanted.expires_at)
    shown, now = secrets_made.make(secrets_made.API_KEY), service.now()
    key = ApiKey(
        new("key"), actor.tenant, owner, wanted.name, secrets_made.digest(shown), shown[-secrets_made.HINT_CHARACTERS :],
        wanted.scopes, now, wanted.allowances, wanted.expires_at, standing=stood(ORDINARY.within(actor.bounds), wanted.standing),
    )  # fmt: skip
    async with service.changing() as on:
        tenant = await people.hold_tenant(on, actor.tenant)
        _stands(wanted.standing, key.standing, actor, tenant)
        user = await people.user_of(on, actor.tenant, owner)
        if user is not None:
            # A key acts in its owner's role: one for somebody above would lift its maker there.
            if owner != actor.id and (actor.role is None or not may_appoint(actor.role, user.role, user.role)):
                raise Problem(
                    403, "owner: a key for another user is made by who stands above them.", "owner", "role_too_high"
                )
            held = await held_by(on, user)
        else:
            application = await programs.application_of(on, actor.tenant, owner)
            if application is None:
                raise Problem(404, f"There is no user or application {owner}.", "owner", "not_found")
            held = application.scopes
        _within(wanted.scopes, actor.scopes & held)
        count = await programs.count_keys(on, actor.tenant, owner, now)
        if count >= service.settings.keys_per_owner_max:
            raise conflict(f"{owner} has {count} keys in force, the most there can be; revoke some first.")
        await programs.add_key(on, key, user is not None)
        await service.tell(
            on, "key.created", key.id, key.tenant, actor.id, {"owner": owner, "scopes": sorted(key.scopes)}
        )
    return shown, key


async def key_seen(service: Service, actor: Actor, key_id: str) -> ApiKey:
    """One's own; the tenant's for who manages them. Raises Problem."""
    actor.need(Scope.KEYS_READ)
    async with service.database.reading() as on:
        key = await programs.key_of(on, actor.tenant, key_id, _whose(actor))
    if key is None:
        raise not_found("API key", key_id)
    return key


async def keys_seen(service: Service, actor: Actor, page: Page) -> list[ApiKey]:
    """One more than the page holds, if there is one."""
    actor.need(Scope.KEYS_READ)
    async with service.database.reading() as on:
        return await programs.keys_page(on, actor.tenant, _whose(actor), page)


async def change_key(
    service: Service, actor: Actor, key_id: str, name: str | None, scopes: frozenset[str] | None,
    allowances: Allowances | None, expires_at: float | None, wish: Wish = NONE,
) -> ApiKey:  # fmt: skip
    """None stays as it is. Limits and standing are for who manages the tenant's keys: nobody lifts their own. Raises Problem."""
    actor.need(Scope.KEYS_WRITE)
    if allowances is not None or not wish.is_empty:
        actor.need(Scope.KEYS_MANAGE)
    _expires(service, expires_at)
    async with service.changing() as on:
        key = await programs.key_of(on, actor.tenant, key_id, _whose(actor))
        if key is None:
            raise not_found("API key", key_id)
        if scopes is not None:
            _within(scopes, actor.scopes | key.scopes)
        changed = dataclasses.replace(
            key,
            name=key.name if name is None else name,
            scopes=key.scopes if scopes is None else scopes,
            allowances=key.allowances if allowances is None else allowances,
            expires_at=key.expires_at if expires_at is None else expires_at,
            standing=stood(key.standing, wish),
        )
        if not wish.is_empty:
            _stands(wish, changed.standing, actor, await people.tenant_of(on, actor.tenant))
        await programs.change_key(on, changed)
        await service.tell(on, "key.changed", key.id, key.tenant, actor.id, {"scopes": sorted(changed.scopes)})
    return changed


async def remove_key(service: Service, actor: Actor, key_id: str) -> None:
    """Raises Problem."""
    actor.need(Scope.KEYS_WRITE)
    async with service.changing() as on:
        key = await programs.key_of(on, actor.tenant, key_id, _whose(actor))
        if key is None:
            raise not_found("API key", key_id)
        await programs.remove_key(on, key)
        await service.tell(on, "key.revoked", key.id, key.tenant, actor.id, {"owner": key.owner})


def _stands(wish: Wish, meant: Standing, actor: Actor, tenant: Tenant | None) -> None:
    bounds = actor.bounds if tenant is None else both(actor.bounds, tenant.bounds)
    fault = fault_of(wish, meant, bounds)
    if fault is None:
        return
    if fault.is_beyond:
        said = f"{fault.param}: {fault.why} in this tenant, or with the key that asks; operators say what a tenant may."
        raise Problem(403, said, fault.param, "out_of_bounds")
    raise Problem(400, f"{fault.param}: {fault.why}; raise the highest, or lower the usual one.", fault.param)


def _whose(actor: Actor) -> str | None:
    return None if Scope.KEYS_MANAGE in actor.scopes else actor.id


def _expires(service: Service, at: float | None) -> None:
    if at is not None and at <= service.now():
        raise Problem(400, "expires_at: this lies in the past; give a second of the epoch to come.", "expires_at")


def _within(asked: frozenset[str], held: frozenset[str]) -> None:
    if more := beyond(asked, held):
        raise Problem(
            403, f"scopes: {', '.join(more)} cannot be given away by who does not hold it.", "scopes", "no_scope"
        )
