"""One of several processes does a thing at a time: by a lease in the database, whose number goes up each time it changes hands.

Who has paused past its lease does not know that it has lost it; what it writes afterwards is refused, because its number is not the
one in the table any more (`holds`, in the transaction of the write). (M. Kleppmann, "How to do distributed locking": fencing tokens.)
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Float, Integer, MetaData, String, Table, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.database import IDENTIFIER, Database
from cordee.services.base.identifiers import new


def table(metadata: MetaData, name: str) -> Table:
    """Leases, as part of a service's schema."""
    return Table(
        name, metadata, Column("name", String(64), primary_key=True), Column("holder", IDENTIFIER, nullable=False),
        Column("number", BigInteger().with_variant(Integer, "sqlite"), nullable=False),
        Column("until", Float(53), nullable=False),
    )  # fmt: skip


class Lease:
    """The lease `name` as this process may hold it. Times are seconds of the epoch."""

    def __init__(self, leases: Table, name: str, length_s: float) -> None:
        self._leases = leases
        self._name = name
        self._length_s = length_s
        self._holder = new("holder")

    async def take(self, database: Database, now: float) -> int | None:
        """Take or prolong it and return its number; None while another process holds it. Raises AwayError."""
        c, until = self._leases.c, now + self._length_s
        async with database.reading() as on:
            found = (await on.execute(select(self._leases).where(c.name == self._name))).first()
        try:
            async with database.writing() as on:
                if found is None:
                    first = insert(self._leases).values(name=self._name, holder=self._holder, number=1, until=until)
                    await on.execute(first)
                    return 1
                if found.holder != self._holder and found.until >= now:
                    return None
                number: int = found.number if found.holder == self._holder else found.number + 1
                mine = (c.name == self._name) & (c.number == found.number) & (c.holder == found.holder)
                changed = await on.execute(
                    update(self._leases).where(mine).values(holder=self._holder, number=number, until=until)
                )
                return number if changed.rowcount else None
        except IntegrityError:
            return None  # two first ones at once; the other one was quicker

    async def holds(self, on: AsyncConnection, number: int) -> bool:
        """Whether it still is `number`; it stays so until the transaction of `on` has ended."""
        c = self._leases.c
        same = update(self._leases).where((c.name == self._name) & (c.number == number)).values(number=number)
        return bool((await on.execute(same)).rowcount)

    async def give_back(self, database: Database) -> None:
        """Let another process take it at once. Raises AwayError."""
        c = self._leases.c
        async with database.writing() as on:
            mine = (c.name == self._name) & (c.holder == self._holder)
            await on.execute(update(self._leases).where(mine).values(until=0.0))
