"""Applications and API keys. A key is found by its digest; everything else says which tenant asks."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.caller import ORDINARY, Standing
from cordee.services.accounts.records import OWN, ApiKey, Application
from cordee.services.accounts.store.changes import Kind, note
from cordee.services.accounts.store.people import allowances_of, stored
from cordee.services.accounts.tables import api_keys, applications
from cordee.services.base.paging import Page, cut


async def add_application(on: AsyncConnection, one: Application) -> None:
    await on.execute(
        insert(applications).values(id=one.id, tenant_id=one.tenant, created_at=one.created_at, **_said(one))
    )
    await note(on, Kind.PRINCIPAL, one.id)


async def application_of(on: AsyncConnection, tenant_id: str, application_id: str) -> Application | None:
    found = await client(on, application_id)
    return found if found and found.tenant == tenant_id else None


async def client(on: AsyncConnection, application_id: str) -> Application | None:
    """Of whatever tenant: for an application that says itself who it is."""
    if application_id == OWN.id:
        return OWN
    row = (await on.execute(select(applications).where(applications.c.id == application_id))).first()
    return _application(row) if row else None


async def applications_page(on: AsyncConnection, tenant_id: str, page: Page) -> list[Application]:
    """One more than the page holds, if there is one."""
    query = cut(select(applications).where(applications.c.tenant_id == tenant_id), applications.c.id, page)
    return [_application(row) for row in (await on.execute(query)).all()]


async def count_applications(on: AsyncConnection, tenant_id: str) -> int:
    query = select(func.count()).where(applications.c.tenant_id == tenant_id)
    return int((await on.execute(query)).scalar_one())


async def change_application(on: AsyncConnection, one: Application) -> None:
    await on.execute(
        update(applications)
        .where(applications.c.id == one.id, applications.c.tenant_id == one.tenant)
        .values(**_said(one))
    )
    await note(on, Kind.PRINCIPAL, one.id)


async def remove_application(on: AsyncConnection, one: Application) -> None:
    """And all that was its: keys, families, codes."""
    await on.execute(delete(applications).where(applications.c.id == one.id, applications.c.tenant_id == one.tenant))
    await note(on, Kind.PRINCIPAL, one.id)


async def add_key(on: AsyncConnection, key: ApiKey, is_users: bool) -> None:
    """`is_users`: the owner is a user, not an application."""
    await on.execute(
        insert(api_keys).values(
            id=key.id,
            tenant_id=key.tenant,
            user_id=key.owner if is_users else None,
            application_id=None if is_users else key.owner,
            name=key.name,
            digest=key.digest,
            hint=key.hint,
            scopes=sorted(key.scopes),
            created_at=key.created_at,
            allowances=stored(key.allowances),
            expires_at=key.expires_at,
            standing=_standing(key),
        )
    )
    await note(on, Kind.KEY, key.id)


async def key_by_digest(on: AsyncConnection, digest: str) -> ApiKey | None:
    row = (await on.execute(select(api_keys).where(api_keys.c.digest == digest))).first()
    return _key(row) if row else None


async def key_of(on: AsyncConnection, tenant_id: str, key_id: str, owner: str | None) -> ApiKey | None:
    """`owner`: whose keys may be seen; None for everybody's in the tenant."""
    query = _owned(select(api_keys).where(api_keys.c.id == key_id, api_keys.c.tenant_id == tenant_id), owner)
    row = (await on.execute(query)).first()
    return _key(row) if row else None


async def keys_page(on: AsyncConnection, tenant_id: str, owner: str | None, page: Page) -> list[ApiKey]:
    """One more than the page holds, if there is one."""
    query = _owned(select(api_keys).where(api_keys.c.tenant_id == tenant_id), owner)
    return [_key(row) for row in (await on.execute(cut(query, api_keys.c.id, page))).all()]


async def count_keys(on: AsyncConnection, tenant_id: str, owner: str, now: float) -> int:
    """Those in force."""
    in_force = or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now)
    query = _owned(select(func.count()).where(api_keys.c.tenant_id == tenant_id, in_force), owner)
    return int((await on.execute(query)).scalar_one())


async def change_key(on: AsyncConnection, key: ApiKey) -> None:
    await on.execute(
        update(api_keys)
        .where(api_keys.c.id == key.id, api_keys.c.tenant_id == key.tenant)
        .values(
            name=key.name,
            scopes=sorted(key.scopes),
            allowances=stored(key.allowances),
            expires_at=key.expires_at,
            last_used_at=key.last_used_at,
            standing=_standing(key),
        )
    )
    await note(on, Kind.KEY, key.id)


async def note_use(on: AsyncConnection, key_id: str, now: float) -> None:
    await on.execute(update(api_keys).where(api_keys.c.id == key_id).values(last_used_at=now))


async def remove_key(on: AsyncConnection, key: ApiKey) -> None:
    await on.execute(delete(api_keys).where(api_keys.c.id == key.id, api_keys.c.tenant_id == key.tenant))
    await note(on, Kind.KEY, key.id)


def standing_of(found: Any) -> Standing:
    return ORDINARY if found is None else msgspec.convert(found, Standing)


def _standing(key: ApiKey) -> Any:
    """None for what is ordinary: what gateways that know of nothing else are told depends on it."""
    return None if key.standing == ORDINARY else msgspec.to_builtins(key.standing)


def _owned(query: Any, owner: str | None) -> Any:
    if owner is None:
        return query
    return query.where(or_(api_keys.c.user_id == owner, api_keys.c.application_id == owner))


def _said(one: Application) -> dict[str, Any]:
    return {
        "name": one.name,
        "scopes": sorted(one.scopes),
        "redirect_uris": list(one.redirect_uris),
        "secret_digest": one.secret_digest,
    }


def _application(row: Row[Any]) -> Application:
    return Application(
        row.id,
        row.tenant_id,
        row.name,
        frozenset(row.scopes),
        tuple(row.redirect_uris),
        row.secret_digest,
        row.created_at,
    )


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        row.id, row.tenant_id, row.user_id or row.application_id, row.name, row.digest, row.hint, frozenset(row.scopes),
        row.created_at, allowances_of(row.allowances), row.expires_at, row.last_used_at, standing_of(row.standing),
    )  # fmt: skip
