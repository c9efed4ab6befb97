"""Who people are at providers, and those who are signing in there. What may be used once is taken by one DELETE."""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.accounts.store.people import TakenError
from cordee.services.accounts.store.safety import PRUNED_AT_ONCE
from cordee.services.accounts.tables import outside_identities, outside_sign_ins


@record
class SignIn:
    """Somebody between two pages. `digest`: of what the next request shows; `browser`: of the cookie that it brings; `asked`: the
    parameters of what is to be allowed. `user` None: still at the provider."""

    digest: str
    provider: str
    browser: str
    asked: dict[str, str]
    expires_at: float
    user: str | None = None


async def user_of(on: AsyncConnection, issuer: str, subject: str) -> str | None:
    """Whose identity this is."""
    o = outside_identities.c
    found: str | None = (
        await on.execute(select(o.user_id).where(o.issuer == issuer, o.subject == subject))
    ).scalar_one_or_none()
    return found


async def add_identity(on: AsyncConnection, issuer: str, subject: str, user_id: str, now: float) -> None:
    """Raises TakenError; the transaction is of no use then."""
    try:
        await on.execute(
            insert(outside_identities).values(issuer=issuer, subject=subject, user_id=user_id, created_at=now)
        )
    except IntegrityError as error:
        raise TakenError from error


async def add_sign_in(on: AsyncConnection, one: SignIn, rows_max: int) -> None:
    """Makes room when there are `rows_max` of them."""
    table = outside_sign_ins
    if int((await on.execute(select(func.count()).select_from(table))).scalar_one()) >= rows_max:
        oldest = select(table.c.digest).order_by(table.c.expires_at).limit(PRUNED_AT_ONCE)
        await on.execute(delete(table).where(table.c.digest.in_(oldest)))
    await on.execute(
        insert(table).values(
            digest=one.digest, provider=one.provider, browser=one.browser, asked=one.asked, expires_at=one.expires_at,
            user_id=one.user,
        )
    )  # fmt: skip


async def take_sign_in(
    on: AsyncConnection, digest: str, provider: str, browser: str, now: float, *, is_back: bool
) -> SignIn | None:
    """It, once, if it is of this provider and this browser and not too old. `is_back`: from the provider, with a user."""
    o = outside_sign_ins.c
    whose = o.user_id.is_not(None) if is_back else o.user_id.is_(None)
    taken = delete(outside_sign_ins).where(
        o.digest == digest, o.provider == provider, o.browser == browser, o.expires_at > now, whose
    )
    row = (await on.execute(taken.returning(o.asked, o.expires_at, o.user_id))).first()
    return None if row is None else SignIn(digest, provider, browser, dict(row.asked), row.expires_at, row.user_id)
