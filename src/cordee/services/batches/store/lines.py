"""The lines of a batch, from when they are read until its files are written. A line keeps its request until it has a result."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.batches.records import Ended, Fate, Line, Result
from cordee.services.batches.tables import lines


async def add(on: AsyncConnection, batch_id: str, read: list[Line]) -> None:
    await on.execute(
        insert(lines),
        [
            {
                "batch": batch_id, "number": line.number, "custom_id": line.custom_id, "fate": Fate.WAITING, "request": line.request,
                "status": 0, "request_id": "", "body": None,
            }
            for line in read
        ],
    )  # fmt: skip


async def waiting(on: AsyncConnection, batch_id: str, after: int, most: int) -> list[Line]:
    """Those that have no result yet, behind line number `after`."""
    c = lines.c
    query = select(c.number, c.custom_id, c.request).where(
        c.batch == batch_id, c.fate == Fate.WAITING, c.number > after
    )
    rows = (await on.execute(query.order_by(c.number).limit(most))).all()
    return [Line(row.number, row.custom_id, row.request) for row in rows]


async def end(on: AsyncConnection, batch_id: str, results: list[Result]) -> list[Result]:
    """Give lines their results, and say which of them had none before: a line has one result for ever."""
    c = lines.c
    numbers = [result.number for result in results]
    open_ones = select(c.number).where(c.batch == batch_id, c.number.in_(numbers), c.fate == Fate.WAITING)
    new = {row.number for row in (await on.execute(open_ones)).all()}
    ended = [result for result in results if result.number in new]
    if ended:
        change = update(lines).where(c.batch == batch_id, c.number == bindparam("of"))
        await on.execute(
            change.values(request=None),
            [
                {"of": r.number, "fate": r.fate, "status": r.status, "request_id": r.request_id, "body": r.body}
                for r in ended
            ],
        )
    return ended


async def give_up(on: AsyncConnection, batch_id: str, most: int) -> int:
    """Lines that were never answered have failed, `most` at once; returns how many."""
    c = lines.c
    numbers = select(c.number).where(c.batch == batch_id, c.fate == Fate.WAITING).order_by(c.number).limit(most)
    given_up = update(lines).where(c.batch == batch_id, c.fate == Fate.WAITING, c.number.in_(numbers))
    return (await on.execute(given_up.values(fate=Fate.FAILED, request=None))).rowcount


async def ended(on: AsyncConnection, batch_id: str, fate: Fate, after: int, most: int) -> list[Ended]:
    """What became of lines, behind line number `after`."""
    c = lines.c
    query = select(c.number, c.custom_id, c.status, c.request_id, c.body).where(
        c.batch == batch_id, c.fate == fate, c.number > after
    )
    rows = (await on.execute(query.order_by(c.number).limit(most))).all()
    return [Ended(row.number, row.custom_id, row.status, row.request_id, row.body or b"") for row in rows]


async def remove(on: AsyncConnection, batch_id: str, most: int) -> int:
    """Delete `most` of them; returns how many there were."""
    c = lines.c
    numbers = select(c.number).where(c.batch == batch_id).order_by(c.number).limit(most)
    return (await on.execute(delete(lines).where(c.batch == batch_id, c.number.in_(numbers)))).rowcount
