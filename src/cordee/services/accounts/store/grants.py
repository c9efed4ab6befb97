"""Families of refresh tokens, authorization codes and waiting devices. What may be used once is taken by one UPDATE that only one
transaction can win."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.accounts.records import OWN_CLIENT, Code, Device, Family
from cordee.services.accounts.store.changes import Kind, note
from cordee.services.accounts.store.people import TakenError
from cordee.services.accounts.tables import codes, devices, families, outside_sign_ins, refresh_tokens


async def add_family(on: AsyncConnection, family: Family) -> None:
    await on.execute(
        insert(families).values(
            id=family.id,
            tenant_id=family.tenant,
            user_id=family.user,
            application_id=family.application,
            scopes=sorted(family.scopes),
            created_at=family.created_at,
            expires_at=family.expires_at,
        )
    )


async def family_of(on: AsyncConnection, family_id: str) -> Family | None:
    row = (await on.execute(select(families).where(families.c.id == family_id))).first()
    return _family(row) if row else None


async def revoke_family(on: AsyncConnection, family_id: str, now: float) -> None:
    f = families.c
    await on.execute(update(families).where(f.id == family_id, f.revoked_at.is_(None)).values(revoked_at=now))
    await note(on, Kind.FAMILY, family_id)


async def revoke_families(on: AsyncConnection, user_id: str, now: float) -> None:
    """All of a user."""
    f = families.c
    ended = update(families).where(f.user_id == user_id, f.revoked_at.is_(None)).values(revoked_at=now).returning(f.id)
    await note(on, Kind.FAMILY, *(await on.execute(ended)).scalars())


async def add_refresh(on: AsyncConnection, digest: str, family_id: str, expires_at: float) -> None:
    await on.execute(insert(refresh_tokens).values(digest=digest, family_id=family_id, expires_at=expires_at))


async def refresh_of(on: AsyncConnection, digest: str) -> tuple[Family, float] | None:
    """The family of a refresh token, used or not, and when the token ends."""
    row = (await on.execute(select(refresh_tokens).where(refresh_tokens.c.digest == digest))).first()
    if row is None:
        return None
    family = await family_of(on, row.family_id)
    return (family, row.expires_at) if family else None


async def use_refresh(on: AsyncConnection, digest: str, now: float) -> bool:
    """Whether this was its first use."""
    r = refresh_tokens.c
    taken = await on.execute(update(refresh_tokens).where(r.digest == digest, r.used_at.is_(None)).values(used_at=now))
    return taken.rowcount == 1


async def add_code(on: AsyncConnection, code: Code) -> None:
    await on.execute(
        insert(codes).values(
            digest=code.digest,
            user_id=code.user,
            application_id=code.application,
            redirect_uri=code.redirect_uri,
            challenge=code.challenge,
            scopes=sorted(code.scopes),
            nonce=code.nonce,
            expires_at=code.expires_at,
        )
    )


async def code_of(on: AsyncConnection, digest: str) -> Code | None:
    row = (await on.execute(select(codes).where(codes.c.digest == digest))).first()
    if row is None:
        return None
    return Code(
        row.digest, row.user_id, row.application_id, row.redirect_uri, row.challenge, frozenset(row.scopes), row.nonce,
        row.expires_at, row.family_id,
    )  # fmt: skip


async def use_code(on: AsyncConnection, digest: str, family_id: str, now: float) -> bool:
    """Whether this was its first use; if so `family_id` is what was made of it."""
    first = update(codes).where(codes.c.digest == digest, codes.c.used_at.is_(None))
    return (await on.execute(first.values(used_at=now, family_id=family_id))).rowcount == 1


async def add_device(on: AsyncConnection, device: Device) -> None:
    """Raises TakenError where the user code is; the transaction is of no use then."""
    try:
        await on.execute(
            insert(devices).values(
                digest=device.digest,
                user_code=device.user_code,
                application_id=None if device.application == OWN_CLIENT else device.application,
                scopes=sorted(device.scopes),
                expires_at=device.expires_at,
            )
        )
    except IntegrityError as error:
        raise TakenError from error


async def device_of(on: AsyncConnection, digest: str) -> Device | None:
    row = (await on.execute(select(devices).where(devices.c.digest == digest))).first()
    return _device(row) if row else None


async def device_by_user_code(on: AsyncConnection, user_code: str) -> Device | None:
    row = (await on.execute(select(devices).where(devices.c.user_code == user_code))).first()
    return _device(row) if row else None


async def note_poll(on: AsyncConnection, digest: str, now: float) -> None:
    await on.execute(update(devices).where(devices.c.digest == digest).values(polled_at=now))


async def answer_device(on: AsyncConnection, digest: str, user_id: str, is_allowed: bool) -> bool:
    """Whether this was the first answer."""
    waiting = update(devices).where(devices.c.digest == digest, devices.c.is_allowed.is_(None))
    return (await on.execute(waiting.values(is_allowed=is_allowed, user_id=user_id))).rowcount == 1


async def take_device(on: AsyncConnection, digest: str) -> bool:
    """Whether it was there to be taken."""
    return (await on.execute(delete(devices).where(devices.c.digest == digest))).rowcount == 1


async def forget(on: AsyncConnection, now: float, ended_before: float) -> None:
    """Drop what has expired. A family stays until `ended_before`, because gateways are told from it that it was ended."""
    for table in (refresh_tokens, codes, devices, outside_sign_ins):
        await on.execute(delete(table).where(table.c.expires_at < now))
    await on.execute(delete(families).where(families.c.expires_at < ended_before))


def _family(row: Row[Any]) -> Family:
    return Family(
        row.id, row.tenant_id, row.user_id, row.application_id, frozenset(row.scopes), row.created_at, row.expires_at,
        row.revoked_at,
    )  # fmt: skip


def _device(row: Row[Any]) -> Device:
    return Device(
        row.digest, row.user_code, row.application_id or OWN_CLIENT, frozenset(row.scopes), row.expires_at, row.polled_at,
        row.is_allowed, row.user_id,
    )  # fmt: skip
