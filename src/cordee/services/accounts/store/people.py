"""Tenants and users. Whatever is asked of a user says which tenant asks: another tenant's is not found."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.caller import UNBOUNDED, Allowances, Bounds
from cordee.services.accounts.records import Tenant, User
from cordee.services.accounts.rules.rights import Role
from cordee.services.accounts.store.changes import Kind, note
from cordee.services.accounts.tables import tenants, users
from cordee.services.base.paging import Page, cut


class TakenError(Exception):
    """The address belongs to somebody already."""


def stored(allowances: Allowances) -> Any:
    """Limits as JSON."""
    return msgspec.to_builtins(allowances)


def bounds_of(found: Any) -> Bounds:
    return UNBOUNDED if found is None else msgspec.convert(found, Bounds)


def allowances_of(found: Any) -> Allowances:
    return msgspec.convert(found, Allowances)


async def add_tenant(on: AsyncConnection, tenant: Tenant) -> None:
    await on.execute(
        insert(tenants).values(
            id=tenant.id,
            name=tenant.name,
            created_at=tenant.created_at,
            is_operator=tenant.is_operator,
            allowances=stored(tenant.allowances),
            bounds=_bounds(tenant),
        )
    )
    await note(on, Kind.TENANT, tenant.id)


async def tenant_of(on: AsyncConnection, tenant_id: str) -> Tenant | None:
    row = (await on.execute(select(tenants).where(tenants.c.id == tenant_id))).first()
    return _tenant(row) if row else None


async def hold_tenant(on: AsyncConnection, tenant_id: str) -> Tenant | None:
    """The same, and whoever else asks so waits until this transaction ends: for rules over several rows of a tenant."""
    row = (await on.execute(select(tenants).where(tenants.c.id == tenant_id).with_for_update())).first()
    return _tenant(row) if row else None


async def tenants_page(on: AsyncConnection, page: Page) -> list[Tenant]:
    """One more than the page holds, if there is one."""
    return [_tenant(row) for row in (await on.execute(cut(select(tenants), tenants.c.id, page))).all()]


async def has_tenants(on: AsyncConnection) -> bool:
    return (await on.execute(select(tenants.c.id).limit(1))).first() is not None


async def change_tenant(on: AsyncConnection, tenant: Tenant) -> None:
    await on.execute(
        update(tenants)
        .where(tenants.c.id == tenant.id)
        .values(name=tenant.name, allowances=stored(tenant.allowances), bounds=_bounds(tenant))
    )
    await note(on, Kind.TENANT, tenant.id)


async def remove_tenant(on: AsyncConnection, tenant: Tenant) -> None:
    """And all that is left of it."""
    await on.execute(delete(tenants).where(tenants.c.id == tenant.id))
    await note(on, Kind.TENANT, tenant.id)


async def add_user(on: AsyncConnection, user: User) -> None:
    """Raises TakenError; the transaction is of no use then."""
    try:
        await on.execute(
            insert(users).values(id=user.id, tenant_id=user.tenant, created_at=user.created_at, **_said(user))
        )
    except IntegrityError as error:
        raise TakenError from error
    await note(on, Kind.PRINCIPAL, user.id)


async def user_of(on: AsyncConnection, tenant_id: str, user_id: str) -> User | None:
    row = (await on.execute(select(users).where(users.c.id == user_id, users.c.tenant_id == tenant_id))).first()
    return _user(row) if row else None


async def user_by_id(on: AsyncConnection, user_id: str) -> User | None:
    """Of whatever tenant: for who has proved to be this user before."""
    row = (await on.execute(select(users).where(users.c.id == user_id))).first()
    return _user(row) if row else None


async def user_by_email(on: AsyncConnection, email: str) -> User | None:
    row = (await on.execute(select(users).where(users.c.email == email))).first()
    return _user(row) if row else None


async def users_page(on: AsyncConnection, tenant_id: str, page: Page) -> list[User]:
    """One more than the page holds, if there is one."""
    query = cut(select(users).where(users.c.tenant_id == tenant_id), users.c.id, page)
    return [_user(row) for row in (await on.execute(query)).all()]


async def change_user(on: AsyncConnection, user: User) -> None:
    """Raises TakenError; the transaction is of no use then."""
    try:
        await on.execute(
            update(users).where(users.c.id == user.id, users.c.tenant_id == user.tenant).values(**_said(user))
        )
    except IntegrityError as error:
        raise TakenError from error
    await note(on, Kind.PRINCIPAL, user.id)


async def remove_user(on: AsyncConnection, user: User) -> None:
    """And all that was theirs: keys, families, codes."""
    await on.execute(delete(users).where(users.c.id == user.id, users.c.tenant_id == user.tenant))
    await note(on, Kind.PRINCIPAL, user.id)


async def owners(on: AsyncConnection, tenant_id: str) -> int:
    """How many can still sign in as owner."""
    count = select(func.count()).where(
        users.c.tenant_id == tenant_id, users.c.role == Role.OWNER.value, users.c.is_active
    )
    return int((await on.execute(count)).scalar_one())


def _bounds(tenant: Tenant) -> Any:
    """None for none: what gateways that know of no bounds are told depends on it."""
    return None if tenant.bounds == UNBOUNDED else msgspec.to_builtins(tenant.bounds)


def _said(user: User) -> dict[str, Any]:
    return {
        "email": user.email,
        "name": user.name,
        "role": user.role.value,
        "password_hash": user.password_hash,
        "is_active": user.is_active,
    }


def _tenant(row: Row[Any]) -> Tenant:
    allowances, bounds = allowances_of(row.allowances), bounds_of(row.bounds)
    return Tenant(row.id, row.name, row.created_at, row.is_operator, allowances, bounds)


def _user(row: Row[Any]) -> User:
    return User(
        row.id, row.tenant_id, row.email, row.name, Role(row.role), row.password_hash, row.created_at, row.is_active
    )
