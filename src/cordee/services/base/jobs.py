"""Where each saga is: one table of a service's database, whose rows processes take by lease.

Decides who holds a job. Taking one raises its fence; whatever a process writes for a job is committed only while the row still has
the fence that this process took it with, so one that was frozen past its lease changes nothing any more (M. Kleppmann, "How to do
distributed locking", 2016).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.database import IDENTIFIER, Database
from cordee.services.base.identifiers import new
from cordee.services.base.paging import Page, cut
from cordee.services.base.saga import ERROR_CHARACTERS_MAX, Job, JobState, LostError, Standing

NAME_CHARACTERS = 64
_TIME = Float(53)


def tables(metadata: MetaData) -> Table:
    """The jobs, as part of a service's schema."""
    jobs = Table(
        "jobs",
        metadata,
        Column("id", IDENTIFIER, primary_key=True),
        Column("kind", String(NAME_CHARACTERS), nullable=False),
        Column("tenant", IDENTIFIER, nullable=False),
        Column("subject", IDENTIFIER, nullable=False),
        Column("data", Text, nullable=False),
        Column("state", String(NAME_CHARACTERS), nullable=False),
        Column("step", String(NAME_CHARACTERS), nullable=False),
        Column("tries", Integer, nullable=False),
        Column("next_at", _TIME, nullable=False),
        Column("holder", IDENTIFIER),
        Column("until", _TIME),
        Column("fence", Integer, nullable=False),
        Column("error", String(ERROR_CHARACTERS_MAX), nullable=False),
        Column("is_cancelled", Boolean, nullable=False),
        Column("created_at", _TIME, nullable=False),
        Column("changed_at", _TIME, nullable=False),
        Column("ended_at", _TIME),
    )
    going = jobs.c.ended_at.is_(None)
    Index("jobs_going", jobs.c.next_at, sqlite_where=going, postgresql_where=going)
    Index("jobs_ended", jobs.c.ended_at)
    Index("jobs_of", jobs.c.tenant, jobs.c.id)
    return jobs


class Jobs:
    """The jobs of one service, as this process (`holder`) sees them."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.holder = new("runner")

    async def add(
        self, on: AsyncConnection, now: float, kind: str, step: str, tenant: str, subject: str, data: str
    ) -> Job:
        """A new one, to be begun with `step` as soon as somebody has a hand free."""
        job = Job(
            new("job"), kind, tenant, subject, data, JobState.QUEUED, step, 0, now, "", False, 0, now, now, None
        )  # fmt: skip
        await on.execute(
            insert(self._table).values(
                id=job.id, kind=kind, tenant=tenant, subject=subject, data=data, state=job.state.value, step=step, tries=0,
                next_at=now, fence=0, error="", is_cancelled=False, created_at=now, changed_at=now,
            )
        )  # fmt: skip
        return job

    async def claim(self, on: AsyncConnection, now: float, room: Mapping[str, int], lease_s: float) -> list[Job]:
        """Take what is due and nobody holds, at most `room[kind]` of each kind, those of tenants with the fewest running first.
        The transaction writes; of two processes at once each job goes to one."""
        taken: list[Job] = []
        for kind, most in room.items():
            due = self._due(kind, now).limit(most).with_for_update(skip_locked=True, of=self._table)
            for row in (await on.execute(due)).all():
                t = self._table.c
                mine = (t.id == row.id) & (t.fence == row.fence) & self._is_free(now)
                values = {"holder": self.holder, "until": now + lease_s, "fence": row.fence + 1, "changed_at": now}
                if (await on.execute(update(self._table).where(mine).values(**values))).rowcount:
                    taken.append(_job(row, row.fence + 1))
        return taken

    async def are_due(self, on: AsyncConnection, now: float, kind: str) -> bool:
        """Whether any waits for a hand."""
        return (await on.execute(self._due(kind, now).limit(1))).first() is not None

    async def renew(self, on: AsyncConnection, job: Job, until: float) -> bool:
        """Hold on to it; returns whether somebody wants it cancelled. Raises LostError."""
        t = self._table.c
        if not (await on.execute(update(self._table).where(self._is_mine(job)).values(until=until))).rowcount:
            raise LostError(job.id)
        row = (await on.execute(select(t.is_cancelled).where(t.id == job.id))).one()
        return bool(row.is_cancelled)

    async def hold(self, on: AsyncConnection, job: Job) -> Job:
        """The job as it is now, which nobody takes over before this transaction ends. Raises LostError."""
        row = (await on.execute(select(self._table).where(self._is_mine(job)).with_for_update())).first()
        if row is None:
            raise LostError(job.id)
        return _job(row, row.fence)

    async def stand(self, on: AsyncConnection, job: Job, standing: Standing, now: float, until: float | None) -> Job:
        """Write where it is now. `until`: held on to until then; None lets it go. Raises LostError."""
        values = {
            "state": standing.state.value, "step": standing.step, "tries": standing.tries, "next_at": standing.next_at,
            "error": standing.error, "ended_at": standing.ended_at, "until": until, "changed_at": now,
        }  # fmt: skip
        if not (await on.execute(update(self._table).where(self._is_mine(job)).values(**values))).rowcount:
            raise LostError(job.id)
        row = (await on.execute(select(self._table).where(self._table.c.id == job.id))).one()
        return _job(row, row.fence)

    async def release(self, on: AsyncConnection, job: Job) -> None:
        """Let it go as it is, so that another process need not wait for the lease to end."""
        await on.execute(update(self._table).where(self._is_mine(job)).values(until=None))

    async def wanted(self, on: AsyncConnection, job_id: str, tenant: str | None, subject: str | None) -> Job | None:
        """The job, held until this transaction ends. `tenant`, `subject` None: whoever's it is."""
        query = select(self._table).where(self._table.c.id == job_id, *self._of(tenant, subject)).with_for_update()
        row = (await on.execute(query)).first()
        return _job(row, row.fence) if row else None

    async def seen(self, on: AsyncConnection, job_id: str, tenant: str | None, subject: str | None) -> Job | None:
        query = select(self._table).where(self._table.c.id == job_id, *self._of(tenant, subject))
        row = (await on.execute(query)).first()
        return _job(row, row.fence) if row else None

    async def page(self, on: AsyncConnection, tenant: str | None, subject: str | None, page: Page) -> list[Job]:
        """One more than the page holds, if there is one."""
        query = cut(select(self._table).where(*self._of(tenant, subject)), self._table.c.id, page)
        return [_job(row, row.fence) for row in (await on.execute(query)).all()]

    async def mark_cancelled(self, on: AsyncConnection, job: Job, now: float) -> None:
        t = self._table.c
        await on.execute(
            update(self._table)
            .where(t.id == job.id, t.ended_at.is_(None))
            .values(is_cancelled=True, next_at=now, changed_at=now)
        )

    async def waiting(self, on: AsyncConnection, tenant: str, kind: str) -> int:
        """How many of a tenant have not ended."""
        t = self._table.c
        count = select(func.count()).where(t.tenant == tenant, t.kind == kind, t.ended_at.is_(None))
        return int((await on.execute(count)).scalar_one())

    async def forget(self, on: AsyncConnection, ended_before: float, most: int) -> int:
        """Delete what ended long ago, at most so many; returns how many."""
        t = self._table.c
        old = select(t.id).where(t.ended_at < ended_before).limit(most)
        return (await on.execute(delete(self._table).where(t.id.in_(old)))).rowcount

    async def erase(self, on: AsyncConnection, tenant: str, subject: str | None, kinds_kept: Collection[str]) -> int:
        """Delete all of a tenant, or of one of its subjects, whatever runs: who holds one finds it lost."""
        t = self._table.c
        of = [t.tenant == tenant, t.kind.not_in(kinds_kept)]
        if subject is not None:
            of.append(t.subject == subject)
        return (await on.execute(delete(self._table).where(*of))).rowcount

    def _due(self, kind: str, now: float) -> Any:
        t, other = self._table.c, self._table.alias("other")
        busy = (
            select(func.count())
            .where(other.c.tenant == t.tenant, other.c.kind == t.kind, other.c.until > now, other.c.ended_at.is_(None))
            .scalar_subquery()
        )
        due = select(self._table).where(t.kind == kind, t.ended_at.is_(None), t.next_at <= now, self._is_free(now))
        return due.order_by(busy, t.next_at, t.id)

    def _is_free(self, now: float) -> Any:
        return or_(self._table.c.until.is_(None), self._table.c.until <= now)

    def _is_mine(self, job: Job) -> Any:
        t = self._table.c
        return (t.id == job.id) & (t.fence == job.fence) & (t.holder == self.holder) & t.ended_at.is_(None)

    def _of(self, tenant: str | None, subject: str | None) -> tuple[Any, ...]:
        t = self._table.c
        asked = ((t.tenant, tenant), (t.subject, subject))
        return tuple(column == value for column, value in asked if value is not None)


@asynccontextmanager
async def fenced(database: Database, jobs: Jobs, job: Job) -> AsyncIterator[AsyncConnection]:
    """A transaction in which `job` is certainly ours. Raises LostError, AwayError."""
    async with database.writing() as on:
        await jobs.hold(on, job)
        yield on


def _job(row: Row[Any], fence: int) -> Job:
    return Job(
        row.id, row.kind, row.tenant, row.subject, row.data, JobState(row.state), row.step, row.tries, row.next_at, row.error,
        bool(row.is_cancelled), fence, row.created_at, row.changed_at, row.ended_at,
    )  # fmt: skip
