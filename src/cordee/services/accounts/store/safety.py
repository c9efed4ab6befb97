"""What signing in rests on: wrong passwords per address, and the keys that sign tokens."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, func, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.accounts.tables import failures, signing_keys

PRUNED_AT_ONCE = 100  # of the oldest addresses, when there are too many


@record
class Failures:
    """Wrong passwords in a row for one address, the last one at `last_at`; shut until `shut_until`."""

    count: int
    last_at: float
    shut_until: float


@record
class SigningKey:
    """A key: `sealed` is its private half, `public` its JWK as JSON knows it."""

    kid: str
    signs_from: float
    sealed: bytes
    public: dict[str, Any]


async def hold_failures(on: AsyncConnection, digest: str, rows_max: int) -> Failures:
    """Those of an address, none yet as well; whoever else asks for it waits until this transaction ends. `digest`: of the address, so
    that the table holds no addresses of people who have no account. Makes room when there are `rows_max` of them."""
    query = select(failures).where(failures.c.digest == digest).with_for_update()
    row = (await on.execute(query)).first()
    if row is None:
        if int((await on.execute(select(func.count()).select_from(failures))).scalar_one()) >= rows_max:
            oldest = select(failures.c.digest).order_by(failures.c.last_at).limit(PRUNED_AT_ONCE)
            await on.execute(delete(failures).where(failures.c.digest.in_(oldest)))
        # There must be a row to wait for: two transactions that both find none would not see each other's count.
        upsert = postgresql.insert if on.dialect.name == "postgresql" else sqlite.insert
        first = {"digest": digest, "failures": 0, "last_at": 0.0, "shut_until": 0.0}
        await on.execute(upsert(failures).values(**first).on_conflict_do_nothing())
        row = (await on.execute(query)).one()
    return Failures(row.failures, row.last_at, row.shut_until)


async def put_failures(on: AsyncConnection, digest: str, found: Failures) -> None:
    """Of an address that is held."""
    values = {"failures": found.count, "last_at": found.last_at, "shut_until": found.shut_until}
    await on.execute(update(failures).where(failures.c.digest == digest).values(**values))


async def clear_failures(on: AsyncConnection, digest: str) -> None:
    await on.execute(delete(failures).where(failures.c.digest == digest))


async def forget_failures(on: AsyncConnection, before: float) -> None:
    await on.execute(delete(failures).where(failures.c.last_at < before))


async def signing_keys_of(on: AsyncConnection) -> list[SigningKey]:
    rows = (await on.execute(select(signing_keys).order_by(signing_keys.c.signs_from, signing_keys.c.kid))).all()
    return [SigningKey(row.kid, row.signs_from, row.sealed, row.public) for row in rows]


async def hold_signing_keys(on: AsyncConnection) -> None:
    """Let nobody else add or remove one until the transaction of `on` ends. On SQLite a transaction that writes is alone anyway."""
    if on.dialect.name == "postgresql":
        await on.execute(text("LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE"))


async def add_signing_key(on: AsyncConnection, key: SigningKey) -> None:
    await on.execute(
        insert(signing_keys).values(kid=key.kid, signs_from=key.signs_from, sealed=key.sealed, public=key.public)
    )


async def remove_signing_keys(on: AsyncConnection, kids: tuple[str, ...]) -> None:
    await on.execute(delete(signing_keys).where(signing_keys.c.kid.in_(kids)))
