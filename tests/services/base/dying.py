"""Processes that run one saga and are killed by the kernel, one after the other, at every point where something has just been written.

`python -m tests.services.base.dying DIRECTORY URL`: imports once, then forks a process per life. Prints how many lives it took and the
log of effects, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Integer, MetaData, String, Table, event, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.config.sections.services import DatabaseSettings
from cordee.config.sections.services import Jobs as JobSettings
from cordee.services.base import jobs as base_jobs
from cordee.services.base.database import Database, connect
from cordee.services.base.jobs import Jobs
from cordee.services.base.runner import Runner
from cordee.services.base.saga import ImpossibleError, Job, Saga, Step, Turn

LEASE_S = 0.2
SETTINGS = JobSettings(poll_s=0.02, lease_s=LEASE_S, backoff_s=0.01, backoff_s_max=0.02)
LIVES_MAX = 200
STEPS = ("a", "b", "c")
metadata = MetaData()
table = base_jobs.tables(metadata)
effects = Table(
    "effects", metadata, Column("number", Integer, primary_key=True), Column("job", String(64)), Column("what", String(64))
)  # fmt: skip


class Life:
    """One process. It dies at one of its commits that change something, before the database has taken it or after."""

    def __init__(self, database: Database, dies_at: int) -> None:
        self.database = database
        self._left = dies_at // 2
        self._is_after = bool(dies_at % 2)
        self._wrote = False
        self._is_dying = False
        event.listen(database.engine.sync_engine, "after_cursor_execute", self._executed)
        event.listen(database.engine.sync_engine, "commit", self._commits)

    def _executed(self, _on: object, cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith(("INSERT", "UPDATE")) and cursor.rowcount > 0:
            self._wrote = True

    def _commits(self, _connection: object) -> None:
        if self._is_dying:
            os.kill(os.getpid(), signal.SIGKILL)  # the one before is through, and nothing else is
        if not self._wrote:
            return
        self._wrote = False
        self._left -= 1
        if self._left < 0:
            if not self._is_after:
                os.kill(os.getpid(), signal.SIGKILL)
            self._is_dying = True

    def saga(self, kind: str) -> Saga:
        def step(name: str) -> Step:
            async def do(turn: Turn) -> None:
                await self._once(turn, name)
                if kind == "undone" and name == "c":
                    raise ImpossibleError("it is not to be")

            async def undo(turn: Turn) -> None:
                await self._once(turn, f"un{name}")

            return Step(name, do, undo)

        return Saga(kind, tuple(step(name) for name in STEPS), 1)

    async def _once(self, turn: Turn, what: str) -> None:
        """An effect as every step has to make it: known by its name when it is made again."""
        async with turn.writing() as on:
            e = effects.c
            if (await on.execute(select(e.number).where(e.job == turn.job.id, e.what == what))).first() is None:
                await on.execute(insert(effects).values(job=turn.job.id, what=what))

    async def live(self) -> None:
        async def ended(on: AsyncConnection, job: Job) -> None:
            await on.execute(insert(effects).values(job=job.id, what=f"ended {job.state.value}"))

        sagas = [self.saga("done"), self.saga("undone")]
        runner = Runner(self.database, Jobs(table), sagas, SETTINGS, time.time, ended, asyncio.Event())
        running = asyncio.create_task(runner.run())
        while True:
            async with self.database.reading() as on:
                if not (await on.execute(select(table.c.id).where(table.c.ended_at.is_(None)).limit(1))).all():
                    break
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _begin(settings: DatabaseSettings, data: Path) -> None:
    database = connect(settings, "dying", data)
    async with database.writing() as on:
        await on.run_sync(metadata.create_all)
        for kind in ("done", "undone"):
            await Jobs(table).add(on, time.time(), kind, STEPS[0], "t", "", "{}")
    await database.close()


async def _log(settings: DatabaseSettings, data: Path) -> dict[str, list[str]]:
    database = connect(settings, "dying", data)
    async with database.reading() as on:
        joined = select(table.c.kind, effects.c.what).join(effects, effects.c.job == table.c.id)
        rows = (await on.execute(joined.order_by(effects.c.number))).all()
    await database.close()
    return {kind: [row.what for row in rows if row.kind == kind] for kind in ("done", "undone")}


def run(settings: DatabaseSettings, data: Path) -> tuple[int, dict[str, list[str]]]:
    """Lives until all is done: each dies a little later than the one before, so that every point is met."""
    asyncio.run(_begin(settings, data))
    for life in range(LIVES_MAX):
        child = os.fork()
        if child == 0:
            asyncio.run(Life(connect(settings, "dying", data), 2 + life % 9).live())
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == 0:
            return life + 1, asyncio.run(_log(settings, data))
        assert os.WIFSIGNALED(status), f"it ended by itself with {status}"
    raise AssertionError(f"not through after {LIVES_MAX} lives")


if __name__ == "__main__":
    print(json.dumps(run(DatabaseSettings(url=sys.argv[2]), Path(sys.argv[1]))))
