"""Tenants and their users come, change and go. A tenant keeps one owner who can sign in; nobody rises above who raises them."""

from __future__ import annotations

import dataclasses

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.caller import UNBOUNDED, Allowances
from cordee.domain.record import record
from cordee.services.accounts.records import Tenant, User
from cordee.services.accounts.rules.rights import Role, Scope, may_appoint
from cordee.services.accounts.rules.standing import NONE, Wish, bounded
from cordee.services.accounts.rules.words import email_of, fault_of_password
from cordee.services.accounts.service import Actor, Service
from cordee.services.accounts.store import grants, people
from cordee.services.base.errors import Problem, conflict, not_found
from cordee.services.base.identifiers import new
from cordee.services.base.paging import Page

INSTALLATION = "installation"  # who did what nobody signed in for


@record
class Person:
    """A user to be."""

    email: str
    name: str
    role: Role
    password: str


@record
class Change:
    """What of a user changes; None stays."""

    email: str | None = None
    name: str | None = None
    role: Role | None = None
    is_active: bool | None = None
    password: str | None = None
    current_password: str | None = None


async def found(service: Service, tenant_name: str, owner: Person) -> tuple[Tenant, User]:
    """The first tenant, which runs the installation, and its owner. Raises Problem (409) when there is a tenant already."""
    user = await _made(service, "", dataclasses.replace(owner, role=Role.OWNER), "")
    tenant = Tenant(new("tenant"), tenant_name, service.now(), is_operator=True)
    user = dataclasses.replace(user, tenant=tenant.id)
    async with service.changing() as on:
        if await people.has_tenants(on):
            raise conflict("There are tenants already; sign in as an owner of the first one to add more.")
        await people.add_tenant(on, tenant)
        await people.add_user(on, user)
        await service.tell(on, "tenant.created", tenant.id, tenant.id, INSTALLATION)
    return tenant, user


async def add_tenant(
    service: Service, actor: Actor, name: str, allowances: Allowances, owner: Person, wish: Wish = NONE
) -> Tenant:
    """Another tenant with its first owner. Raises Problem."""
    actor.need(Scope.TENANTS_WRITE)
    bounds = bounded(UNBOUNDED, wish)
    tenant = Tenant(new("tenant"), name, service.now(), allowances=allowances, bounds=bounds)
    user = await _made(service, tenant.id, dataclasses.replace(owner, role=Role.OWNER), "owner.")
    try:
        async with service.changing() as on:
            await people.add_tenant(on, tenant)
            await people.add_user(on, user)
            await service.tell(on, "tenant.created", tenant.id, tenant.id, actor.id)
            await service.tell(on, "user.created", user.id, tenant.id, actor.id, {"role": user.role.value})
    except people.TakenError as error:
        raise conflict("There is a user with this address already.", "owner.email") from error
    return tenant


async def tenant_seen(service: Service, actor: Actor, tenant_id: str) -> Tenant:
    """Raises Problem (404) for another one's, unless the actor sees all."""
    actor.need(Scope.TENANT_READ)
    if tenant_id != actor.tenant and Scope.TENANTS_READ not in actor.scopes:
        raise not_found("tenant", tenant_id)
    async with service.database.reading() as on:
        tenant = await people.tenant_of(on, tenant_id)
    if tenant is None:
        raise not_found("tenant", tenant_id)
    return tenant


async def change_tenant(
    service: Service, actor: Actor, tenant_id: str, name: str | None, allowances: Allowances | None, wish: Wish = NONE
) -> Tenant:
    """A tenant's owners name it; only operators say what it may use and how far its calls go. Raises Problem."""
    is_operating = Scope.TENANTS_WRITE in actor.scopes
    if tenant_id != actor.tenant and not is_operating:
        raise not_found("tenant", tenant_id)
    is_limiting = allowances is not None or not wish.is_empty
    actor.need(Scope.TENANTS_WRITE if is_limiting or tenant_id != actor.tenant else Scope.TENANT_WRITE)
    async with service.changing() as on:
        tenant = await people.hold_tenant(on, tenant_id)
        if tenant is None:
            raise not_found("tenant", tenant_id)
        changed = dataclasses.replace(
            tenant,
            name=tenant.name if name is None else name,
            allowances=tenant.allowances if allowances is None else allowances,
            bounds=bounded(tenant.bounds, wish),
        )
        await people.change_tenant(on, changed)
        await service.tell(on, "tenant.changed", tenant.id, tenant.id, actor.id, {"limits": is_limiting})
    return changed


async def tenants_seen(service: Service, actor: Actor, page: Page) -> list[Tenant]:
    """One more than the page holds, if there is one."""
    actor.need(Scope.TENANTS_READ)
    async with service.database.reading() as on:
        return await people.tenants_page(on, page)


async def add_user(service: Service, actor: Actor, person: Person) -> User:
    """Somebody new in the actor's tenant. Raises Problem."""
    actor.need(Scope.USERS_WRITE)
    _appoint(actor, None, person.role)
    user = await _made(service, actor.tenant, person, "")
    try:
        async with service.changing() as on:
            await people.add_user(on, user)
            await service.tell(on, "user.created", user.id, user.tenant, actor.id, {"role": user.role.value})
    except people.TakenError as error:
        raise conflict("There is a user with this address already.", "email") from error
    return user


async def user_seen(service: Service, actor: Actor, user_id: str) -> User:
    """Oneself always; others with the scope. Raises Problem."""
    if user_id != actor.id:
        actor.need(Scope.USERS_READ)
    async with service.database.reading() as on:
        user = await people.user_of(on, actor.tenant, user_id)
    if user is None:
        raise not_found("user", user_id)
    return user


async def users_seen(service: Service, actor: Actor, page: Page) -> list[User]:
    """One more than the page holds, if there is one."""
    actor.need(Scope.USERS_READ)
    async with service.database.reading() as on:
        return await people.users_page(on, actor.tenant, page)


async def change_user(service: Service, actor: Actor, user_id: str, change: Change) -> User:
    """Others with the scope; of oneself the name, and the password after the current one has been shown. Raises Problem."""
    is_own = user_id == actor.id and change.role is None and change.is_active is None and change.email is None
    if not is_own:
        actor.need(Scope.USERS_WRITE)
    elif actor.family is None:
        raise Problem(403, "A key cannot change its owner; sign in.", code="sign_in_first")
    user = await user_seen(service, actor, user_id) if is_own else await _user(service, actor.tenant, user_id)
    changed = await _changed(service, user, change, user_id == actor.id)
    try:
        async with service.changing() as on:
            await people.hold_tenant(on, actor.tenant)
            now = await people.user_of(on, actor.tenant, user_id)
            if now is None:
                raise not_found("user", user_id)
            if not is_own:
                _appoint(actor, now.role, changed.role)
            changed = dataclasses.replace(changed, role=now.role if change.role is None else change.role)
            await people.change_user(on, changed)
            await _keep_an_owner(on, actor.tenant)
            if change.password is not None or change.is_active is False:
                await grants.revoke_families(on, user_id, service.now())
            names = sorted(
                field.name for field in dataclasses.fields(change) if getattr(change, field.name) is not None
            )
            await service.tell(
                on, "user.changed", user_id, actor.tenant, actor.id, {"changed": names, "role": changed.role.value}
            )
    except people.TakenError as error:
        raise conflict("There is a user with this address already.", "email") from error
    return changed


async def remove_user(service: Service, actor: Actor, user_id: str) -> None:
    """And their keys and tokens. Raises Problem."""
    actor.need(Scope.USERS_WRITE)
    async with service.changing() as on:
        await people.hold_tenant(on, actor.tenant)
        user = await people.user_of(on, actor.tenant, user_id)
        if user is None:
            raise not_found("user", user_id)
        _appoint(actor, user.role, None)
        await people.remove_user(on, user)
        await _keep_an_owner(on, actor.tenant)
        await service.tell(on, "user.removed", user_id, actor.tenant, actor.id)


async def _user(service: Service, tenant: str, user_id: str) -> User:
    async with service.database.reading() as on:
        user = await people.user_of(on, tenant, user_id)
    if user is None:
        raise not_found("user", user_id)
    return user


async def _changed(service: Service, user: User, change: Change, is_own: bool) -> User:
    email = user.email if change.email is None else _email(change.email, "email")
    password_hash = user.password_hash
    if change.password is not None:
        if is_own and not (await service.hasher.is_right(change.current_password or "", user.password_hash))[0]:
            raise Problem(403, "current_password is not the current password.", "current_password", "wrong_password")
        password_hash = await _hashed(service, change.password, email, "password")
    return dataclasses.replace(
        user,
        email=email,
        name=user.name if change.name is None else change.name,
        is_active=user.is_active if change.is_active is None else change.is_active,
        password_hash=password_hash,
    )


async def _made(service: Service, tenant: str, person: Person, prefix: str) -> User:
    """`prefix`: where in the request the person stands."""
    email = _email(person.email, f"{prefix}email")
    password_hash = await _hashed(service, person.password, email, f"{prefix}password")
    return User(new("user"), tenant, email, person.name, person.role, password_hash, service.now())


def _email(typed: str, param: str) -> str:
    email = email_of(typed)
    if email is None:
        raise Problem(400, f"{param}: this is no e-mail address.", param, "invalid_email")
    return email


async def _hashed(service: Service, password: str, email: str, param: str) -> str:
    fault = fault_of_password(password, email, service.settings.passwords.length_min)
    if fault is not None:
        raise Problem(400, f"{param}: {fault}.", param, "invalid_password")
    return await service.hasher.make(password)


def _appoint(actor: Actor, before: Role | None, after: Role | None) -> None:
    # A program that acts for itself has no role, so it appoints nobody, whatever scopes it was given.
    if actor.role is None or not may_appoint(actor.role, before, after):
        raise Problem(
            403,
            "Only owners appoint, change or remove owners and those of their own rank; ask one.",
            "role",
            "role_too_high",
        )


async def _keep_an_owner(on: AsyncConnection, tenant: str) -> None:
    if not await people.owners(on, tenant):
        raise conflict(
            "This would leave the tenant without an owner who can sign in; appoint another one first.", "role"
        )
