"""All that belongs to a tenant or a user goes, piece by piece, and all of it can be had by who it is about.

Asked by the installation itself, as a step of a saga that repeats it until it is done: a piece is one transaction, and one that was done
already does nothing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

from sqlalchemy import select

from cordee.services.accounts.membership import INSTALLATION
from cordee.services.accounts.records import User
from cordee.services.accounts.rules.rights import Role, Scope
from cordee.services.accounts.service import Actor, Service
from cordee.services.accounts.store import grants, people, programs
from cordee.services.accounts.tables import api_keys, applications, families, outside_identities, users
from cordee.services.base.errors import conflict, not_found

PIECE = 200  # users or applications with all that is theirs, of one transaction
EXPORTED_MAX = 10_000  # keys, sign-ins, identities, of one user


async def erase_user(service: Service, tenant: str, user_id: str) -> bool:
    """A user, or an application. Whether nothing is left. Raises Problem (409) for owners and admins: whoever asked for this may be
    below them, and who may take their role from them does that first."""
    async with service.changing() as on:
        user = await people.user_of(on, tenant, user_id)
        if user is not None:
            if user.role in (Role.OWNER, Role.ADMIN):
                said = f"The user {user.id} has the role {user.role.value}; give them a lower one first, which is for those above them."
                raise conflict(said, "user")
            await grants.revoke_families(on, user.id, service.now())
            await people.remove_user(on, user)
            await service.tell(on, "user.removed", user.id, tenant, INSTALLATION)
        application = None if user is not None else await programs.application_of(on, tenant, user_id)
        if application is not None:
            await programs.remove_application(on, application)
            await service.tell(on, "application.removed", application.id, tenant, INSTALLATION)
    return True


async def erase_tenant(service: Service, tenant_id: str) -> bool:
    """Whether nothing is left. Raises Problem (409) for the tenant that runs the installation."""
    async with service.changing() as on:
        tenant = await people.hold_tenant(on, tenant_id)
        if tenant is None:
            return True
        if tenant.is_operator:
            raise conflict("This tenant runs the installation; it cannot be erased.", "tenant")
        found = select(users.c.id).where(users.c.tenant_id == tenant_id).limit(PIECE)
        for user_id in (await on.execute(found)).scalars().all():
            user = await people.user_of(on, tenant_id, user_id)
            assert user is not None, "their row has just been read"
            await people.remove_user(on, user)
        asked = select(applications.c.id).where(applications.c.tenant_id == tenant_id).limit(PIECE)
        for application_id in (await on.execute(asked)).scalars().all():
            one = await programs.application_of(on, tenant_id, application_id)
            assert one is not None, "its row has just been read"
            await programs.remove_application(on, one)
        is_empty = (await on.execute(found)).first() is None and (await on.execute(asked)).first() is None
        if is_empty:
            await people.remove_tenant(on, tenant)
            await service.tell(on, "tenant.removed", tenant_id, tenant_id, INSTALLATION)
    return is_empty


async def export(service: Service, actor: Actor, user_id: str) -> AsyncGenerator[bytes]:
    """Lines of JSON: the user, their keys (never what they can be used with), and their sign-ins. Raises Problem."""
    if user_id != actor.id:
        actor.need(Scope.USERS_WRITE)
    async with service.database.reading() as on:
        user = await people.user_of(on, actor.tenant, user_id)
        if user is None:
            raise not_found("user", user_id)
        key_rows = (await on.execute(select(api_keys).where(api_keys.c.user_id == user_id).limit(EXPORTED_MAX))).all()
        family_rows = (
            await on.execute(select(families).where(families.c.user_id == user_id).limit(EXPORTED_MAX))
        ).all()
        o = outside_identities.c
        identity_rows = (
            await on.execute(select(outside_identities).where(o.user_id == user_id).limit(EXPORTED_MAX))
        ).all()
    keys = ({"object": "api_key", "id": row.id, "name": row.name, "created_at": row.created_at,
             "last_used_at": row.last_used_at} for row in key_rows)  # fmt: skip
    sign_ins = ({"object": "sign_in", "id": row.id, "application": row.application_id, "created_at": row.created_at,
                 "revoked_at": row.revoked_at} for row in family_rows)  # fmt: skip
    identities = ({"object": "identity", "issuer": row.issuer, "subject": row.subject, "created_at": row.created_at}
                  for row in identity_rows)  # fmt: skip

    async def lines() -> AsyncGenerator[bytes]:
        yield _line(_told(user))
        for told in (*keys, *sign_ins, *identities):
            yield _line(told)

    return lines()


def _told(user: User) -> dict[str, Any]:
    return {
        "object": "user", "id": user.id, "tenant": user.tenant, "email": user.email, "name": user.name, "role": user.role.value,
        "created_at": user.created_at, "is_active": user.is_active,
    }  # fmt: skip


def _line(told: dict[str, Any]) -> bytes:
    return json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
