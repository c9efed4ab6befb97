from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import MetaData, update
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.config.sections.services import Jobs as JobSettings
from cordee.services.base import jobs as base_jobs
from cordee.services.base.database import Database
from cordee.services.base.jobs import Jobs, fenced
from cordee.services.base.paging import Page
from cordee.services.base.runner import Runner
from cordee.services.base.saga import ENDED, ImpossibleError, Job, LostError, NotYetError, Saga, Step, Turn
from tests.services import on_both

pytestmark = pytest.mark.anyio
PATIENCE_S = 30.0
QUICK = JobSettings(poll_s=0.02, lease_s=30.0, tries_max=3, backoff_s=0.01, backoff_s_max=0.02)
LEASE_S = 10.0


class Yard:
    """A database with jobs, and runners over it."""

    def __init__(self, database: Database) -> None:
        metadata = MetaData()
        self.table = base_jobs.tables(metadata)
        self.metadata = metadata
        self.database = database
        self.jobs = Jobs(self.table)
        self.log: list[str] = []
        self.ended: list[Job] = []

    def step(self, name: str, act: Callable[[Turn], Awaitable[None]] | None = None, is_final: bool = False) -> Step:
        async def do(turn: Turn) -> None:
            self.log.append(name)
            if act is not None:
                await act(turn)

        async def undo(_turn: Turn) -> None:
            self.log.append(f"un{name}")

        return Step(name, do, undo, is_final)

    async def add(self, kind: str = "k", tenant: str = "t") -> Job:
        async with self.database.writing() as on:
            return await self.jobs.add(on, time.time(), kind, "a", tenant, "", "{}")

    async def seen(self, job: Job) -> Job:
        async with self.database.reading() as on:
            found = await self.jobs.seen(on, job.id, None, None)
        assert found is not None
        return found

    @asynccontextmanager
    async def running(self, *steps: Step, settings: JobSettings = QUICK, at_once: int = 2) -> AsyncIterator[None]:
        async def ended(_on: AsyncConnection, job: Job) -> None:
            self.ended.append(job)

        sagas = [Saga("k", steps, at_once)]
        runner = Runner(self.database, Jobs(self.table), sagas, settings, time.time, ended, asyncio.Event())
        task = asyncio.create_task(runner.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def end(self, job: Job) -> str:
        async with asyncio.timeout(PATIENCE_S):
            while (found := await self.seen(job)).state not in ENDED:
                await asyncio.sleep(0.01)
        return found.state.value


@pytest.fixture
async def yard(database: Database) -> Yard:
    made = Yard(database)
    async with database.writing() as on:
        await on.run_sync(made.metadata.create_all)
    return made


@on_both
async def test_steps_are_done_in_order_and_the_end_is_told_once(yard: Yard):
    job = await yard.add()
    async with yard.running(yard.step("a"), yard.step("b"), yard.step("c")):
        assert await yard.end(job) == "done"
    assert yard.log == ["a", "b", "c"]
    assert [one.id for one in yard.ended] == [job.id]


@on_both
async def test_a_step_that_fails_is_tried_again_and_then_all_is_undone_backwards(yard: Yard):
    async def fails(_turn: Turn) -> None:
        raise ConnectionError("nobody there")

    job = await yard.add()
    async with yard.running(yard.step("a"), yard.step("b", fails), yard.step("c")):
        assert await yard.end(job) == "failed"
    assert yard.log == ["a", "b", "b", "b", "unb", "una"]
    assert (await yard.seen(job)).error == "nobody there"


async def test_what_is_impossible_is_not_tried_again(yard: Yard):
    async def never(_turn: Turn) -> None:
        raise ImpossibleError("there is no such thing")

    job = await yard.add()
    async with yard.running(yard.step("a", never)):
        assert await yard.end(job) == "failed"
    assert yard.log == ["a", "una"]


async def test_a_step_that_is_not_through_is_done_again_and_has_not_failed(yard: Yard):
    async def piecewise(turn: Turn) -> None:
        if len(yard.log) < 6:
            assert turn.job.tries == 0
            raise NotYetError

    job = await yard.add()
    async with yard.running(yard.step("a", piecewise)):
        assert await yard.end(job) == "done"


async def test_a_running_step_is_stopped_and_undone_when_its_job_is_cancelled(yard: Yard):
    begun = asyncio.Event()

    async def long(_turn: Turn) -> None:
        begun.set()
        await asyncio.sleep(PATIENCE_S)

    job = await yard.add()
    async with yard.running(yard.step("a"), yard.step("b", long), settings=JobSettings(poll_s=0.02, lease_s=3.0)):
        await begun.wait()
        async with yard.database.writing() as on:
            await yard.jobs.mark_cancelled(on, job, time.time())
        assert await yard.end(job) == "cancelled"
    assert yard.log == ["a", "b", "unb", "una"]


async def test_a_runner_that_is_stopped_lets_its_job_go_and_the_next_one_does_the_step_again(yard: Yard):
    begun = asyncio.Event()

    async def long(_turn: Turn) -> None:
        if not begun.is_set():
            begun.set()
            await asyncio.sleep(PATIENCE_S)

    job = await yard.add()
    async with yard.running(yard.step("a"), yard.step("b", long)):
        await begun.wait()
    async with yard.running(yard.step("a"), yard.step("b", long)):
        assert await yard.end(job) == "done"
    assert yard.log == ["a", "b", "b"]


async def test_no_more_run_at_once_than_there_is_room_for(yard: Yard):
    running: list[int] = [0]
    both = asyncio.Event()

    async def busy(_turn: Turn) -> None:
        running.append(running[-1] + 1)
        if running[-1] == 2:
            both.set()
        async with asyncio.timeout(PATIENCE_S):
            await both.wait()
        running.append(running[-1] - 1)

    jobs = [await yard.add() for _ in range(4)]
    async with yard.running(yard.step("a", busy)):
        for job in jobs:
            assert await yard.end(job) == "done"
    assert max(running) == 2


@on_both
async def test_of_two_processes_at_once_each_job_goes_to_one(yard: Yard):
    jobs = {(await yard.add()).id for _ in range(20)}
    now = time.time()

    async def take(mine: Jobs) -> list[str]:
        async with yard.database.writing() as on:
            return [job.id for job in await mine.claim(on, now, {"k": 20}, LEASE_S)]

    taken = await asyncio.gather(*(take(Jobs(yard.table)) for _ in range(4)))
    assert sorted(id for one in taken for id in one) == sorted(jobs)


@on_both
async def test_who_was_silent_past_its_lease_writes_nothing_any_more(yard: Yard):
    job = await yard.add()
    frozen, quick = Jobs(yard.table), Jobs(yard.table)
    now = time.time()
    async with yard.database.writing() as on:
        (held,) = await frozen.claim(on, now, {"k": 1}, LEASE_S)
    async with yard.database.writing() as on:
        assert await quick.claim(on, now + LEASE_S - 1, {"k": 1}, LEASE_S) == []
    async with yard.database.writing() as on:
        (taken,) = await quick.claim(on, now + LEASE_S + 1, {"k": 1}, LEASE_S)
    assert taken.fence > held.fence
    with pytest.raises(LostError):
        async with fenced(yard.database, frozen, held) as on:
            await on.execute(update(yard.table).values(error="late"))
    with pytest.raises(LostError):
        async with yard.database.writing() as on:
            await frozen.renew(on, held, now + 100)
    assert (await yard.seen(job)).error == ""


async def test_the_tenant_with_the_fewest_running_is_first(yard: Yard):
    for _ in range(3):
        await yard.add(tenant="many")
    await yard.add(tenant="few")
    order = []
    for _ in range(4):
        async with yard.database.writing() as on:
            order += [job.tenant for job in await yard.jobs.claim(on, time.time() + 1, {"k": 1}, LEASE_S)]
    assert order == ["many", "few", "many", "many"]


async def test_a_step_of_another_version_is_left_for_it(yard: Yard):
    job = await yard.add()
    async with yard.running(yard.step("renamed"), settings=QUICK):
        async with asyncio.timeout(PATIENCE_S):
            while (found := await yard.seen(job)).next_at <= job.next_at:
                await asyncio.sleep(0.01)
    assert (found.state.value, yard.log) == ("queued", [])


async def test_ended_jobs_are_forgotten_after_a_while_and_others_never(yard: Yard):
    old, going = await yard.add(), await yard.add()
    async with yard.database.writing() as on:
        await on.execute(update(yard.table).where(yard.table.c.id == old.id).values(ended_at=5.0))
        assert await yard.jobs.forget(on, 6.0, 10) == 1
        assert [one.id for one in await yard.jobs.page(on, None, None, Page())] == [going.id]
