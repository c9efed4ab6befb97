"""Responses in the background, as rows: queued, claimed by one process at a time, their events stored as they are said.

A claim holds for `lease_s` and is renewed by every flush; who comes after a silent holder has a higher `attempt`, and whatever the earlier
one still writes finds no row of its own (fencing). Every function runs in the transaction `on`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record
from cordee.services.chats.log import Owner
from cordee.services.chats.responses.speaking import Event
from cordee.services.chats.responses.telling import caller_fields, caller_of
from cordee.services.chats.tables import response_events, response_runs, responses
from cordee.wire.vouch import Vouched

_r = response_runs.c


@record
class Run:
    """One that is to be made. `fields`: what stays of the response object; `chat`: the body of the chat completion; `behind`: how many of
    its items have names; `attempt`: of the holder."""

    id: str
    owner: Owner
    caller: Vouched
    fields: Mapping[str, Any]
    chat: str
    behind: int
    queued_at: float
    attempt: int = 0


async def count(on: AsyncConnection, tenant: str) -> int:
    """Of a tenant, waiting or running."""
    return int(
        (await on.execute(select(func.count()).select_from(response_runs).where(_r.tenant == tenant))).scalar_one()
    )


async def queue(on: AsyncConnection, run: Run) -> None:
    await on.execute(
        insert(response_runs).values(
            id=run.id, tenant=run.owner.tenant, subject=run.owner.subject, caller=caller_fields(run.caller),
            fields=dict(run.fields), chat=run.chat, behind=run.behind, holder="", until=0.0, attempt=0,
            queued_at=run.queued_at,
        )
    )  # fmt: skip


async def claim(on: AsyncConnection, holder: str, now: float, until: float, limit: int) -> list[Run]:
    """Take at most `limit` that nobody holds, the oldest first."""
    free = select(response_runs).where(_r.until < now).order_by(_r.until, _r.id).limit(limit)
    taken: list[Run] = []
    for row in (await on.execute(free)).all():
        mine = update(response_runs).where(_r.id == row.id, _r.attempt == row.attempt, _r.until < now)
        got = await on.execute(mine.values(holder=holder, until=until, attempt=row.attempt + 1))
        if got.rowcount:
            taken.append(
                Run(
                    row.id, Owner(row.tenant, row.subject), caller_of(row.caller), row.fields, row.chat, row.behind,
                    row.queued_at, row.attempt + 1,
                )
            )  # fmt: skip
    return taken


async def keep(on: AsyncConnection, run: Run, holder: str, until: float) -> bool:
    """Go on holding it; False: it is somebody else's, was cancelled, or is gone."""
    mine = update(response_runs).where(_r.id == run.id, _r.holder == holder, _r.attempt == run.attempt)
    return bool((await on.execute(mine.values(until=until))).rowcount)


async def let_go(on: AsyncConnection, run: Run, holder: str, until: float) -> None:
    """Nobody holds it from `until` on."""
    mine = update(response_runs).where(_r.id == run.id, _r.holder == holder, _r.attempt == run.attempt)
    await on.execute(mine.values(holder="", until=until))


async def done(on: AsyncConnection, run: Run, holder: str) -> bool:
    """False: it is somebody else's, or gone; then nothing may be told of it."""
    mine = delete(response_runs).where(_r.id == run.id, _r.holder == holder, _r.attempt == run.attempt)
    return bool((await on.execute(mine)).rowcount)


async def take_away(on: AsyncConnection, owner: Owner, response_id: str) -> bool:
    """End a run whoever holds it: the holder finds out at its next flush. False where there is none."""
    return bool((await on.execute(delete(response_runs).where(*_of(owner, response_id)))).rowcount)


async def is_running(on: AsyncConnection, owner: Owner, response_id: str) -> bool | None:
    """Whether somebody has begun with it; None: there is no such run."""
    attempt = (await on.execute(select(_r.attempt).where(*_of(owner, response_id)))).scalar_one_or_none()
    return None if attempt is None else attempt > 0


async def remove(on: AsyncConnection, response_id: str) -> None:
    """The run and its events, after its response was found to be the caller's."""
    await on.execute(delete(response_runs).where(_r.id == response_id))
    await on.execute(delete(response_events).where(response_events.c.response == response_id))


async def store_events(on: AsyncConnection, response_id: str, events: Sequence[Event], now: float) -> None:
    await on.execute(
        insert(response_events).values(
            response=response_id, first=events[0].number, last=events[-1].number, at=now,
            lines=b"\n".join(event.data for event in events).decode(),
        )
    )  # fmt: skip


async def stored_events(on: AsyncConnection, response_id: str, after: int, limit: int) -> list[bytes]:
    """The events behind number `after`, in order, of at most `limit` rows. JSON has no line breaks inside."""
    e = response_events.c
    query = select(e.first, e.lines).where(e.response == response_id, e.last > after).order_by(e.first).limit(limit)
    found: list[bytes] = []
    for row in (await on.execute(query)).all():
        lines = row.lines.encode().split(b"\n")
        found += lines[max(0, after + 1 - row.first) :]
    return found


def _of(owner: Owner, response_id: str) -> tuple[Any, ...]:
    return _r.id == response_id, _r.tenant == owner.tenant, _r.subject == owner.subject


async def tidy(on: AsyncConnection, older: float) -> None:
    """Forget events of long ago, and whatever belongs to responses that were erased."""
    gone = ~exists().where(responses.c.id == _r.id)
    await on.execute(delete(response_runs).where(gone))
    e = response_events.c
    erased = ~exists().where(responses.c.id == e.response)
    running = exists().where(_r.id == e.response)
    await on.execute(delete(response_events).where(((e.at < older) & ~running) | erased))
