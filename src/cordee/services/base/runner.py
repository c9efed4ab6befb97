"""Runs the sagas of a service in this process: takes jobs by lease, does their steps, writes down after each where the job is.

Decides when to look, what to hold on to and when to stop; knows no kind of job. A crash at any point leaves a row that says which
step was being done: who takes it over does that step again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.config.sections.services import Jobs as JobSettings
from cordee.services.base import saga as rules
from cordee.services.base.database import AwayError, Database
from cordee.services.base.jobs import Jobs, fenced
from cordee.services.base.saga import (
    Act,
    ImpossibleError,
    Job,
    JobState,
    LostError,
    NotYetError,
    Patience,
    Saga,
    Standing,
)

BEATS = 3  # renewals in the time of one lease: two may be missed
FORGET_S = 600.0  # between two looks for jobs that ended long ago
FORGOTTEN_AT_ONCE = 1000
_log = logging.getLogger(__name__)

Ended = Callable[[AsyncConnection, Job], Awaitable[None]]


class _CancelledError(Exception):
    """The step was stopped because somebody wants the job cancelled."""


class _Turn:
    """What a step sees of the runner."""

    def __init__(self, jobs: Jobs, database: Database, job: Job, now: Callable[[], float]) -> None:
        self._jobs, self._database, self._now = jobs, database, now
        self.job = job

    @property
    def key(self) -> str:
        return f"{self.job.id}.{self.job.step}"

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        async with fenced(self._database, self._jobs, self.job) as on:
            yield on

    async def others_wait(self) -> bool:
        async with self._database.reading() as on:
            return await self._jobs.are_due(on, self._now(), self.job.kind)


class Runner:
    """One per service and process. `ended`: told of each job in the transaction in which it ends; `due`: set by whoever knows that
    there is something to do."""

    def __init__(
        self, database: Database, jobs: Jobs, sagas: Sequence[Saga], settings: JobSettings, now: Callable[[], float], ended: Ended,
        due: asyncio.Event,
    ) -> None:  # fmt: skip
        self._database, self._jobs, self._settings, self._now, self._ended = database, jobs, settings, now, ended
        self._sagas = {saga.kind: saga for saga in sagas}
        self._patience = Patience(settings.tries_max, settings.backoff_s, settings.backoff_s_max)
        self._running: dict[asyncio.Task[None], str] = {}
        self._due = due

    async def run(self) -> None:
        """Until cancelled; then the steps that run are stopped where they are, and their jobs let go."""
        forgets_at = self._now()
        try:
            while True:
                self._due.clear()
                try:
                    await self._take()
                    if self._now() >= forgets_at:
                        await self._forget()
                        forgets_at = self._now() + FORGET_S
                except AwayError as error:
                    _log.warning("jobs wait: %s", error)
                except Exception as error:
                    # Whatever it is, work that nobody takes is worse than one more try.
                    _log.error("jobs wait: looking for them failed", exc_info=error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.poll_s):
                        await self._due.wait()
        finally:
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _take(self) -> None:
        """Begin to work on what is due, as far as there is room."""
        busy = Counter(self._running.values())
        room = {kind: saga.at_once - busy[kind] for kind, saga in self._sagas.items() if saga.at_once > busy[kind]}
        async with self._database.writing() as on:
            taken = await self._jobs.claim(on, self._now(), room, self._settings.lease_s)
        for job in taken:
            task = asyncio.create_task(self._work(job))
            self._running[task] = job.kind
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._due.set()  # there is room for another one

    async def _work(self, job: Job) -> None:
        """One job, step by step, until it has ended or has to wait."""
        saga = self._sagas[job.kind]
        try:
            if saga.index(job.step) is None:
                _log.error(
                    "%s is at the step %s, which this version does not know: a newer one must go on", job.id, job.step
                )
                standing = Standing(
                    job.state, job.step, job.tries, self._now() + self._settings.backoff_s_max, job.error
                )
                await self._settle(job, lambda _: standing, goes_on=False)
                return
            found: Job | None = await self._settle(job, lambda now: rules.begun(saga, now, self._now()))
            while found is not None:
                found = await self._step(saga, found)
        except LostError:
            _log.warning("%s was taken over by another process", job.id)
        except AwayError as error:
            _log.warning("%s waits until its lease ends: %s", job.id, error)
        except asyncio.CancelledError:
            with contextlib.suppress(AwayError):
                async with self._database.writing() as on:
                    await self._jobs.release(on, job)
            raise
        except Exception as error:
            _log.error("%s waits until its lease ends: its state could not be written", job.id, exc_info=error)

    async def _step(self, saga: Saga, job: Job) -> Job | None:
        """Do or undo one step; returns the job as it goes on, None where it does not for now."""
        at = saga.index(job.step)
        assert at is not None, "looked at before"
        step = saga.steps[at]
        act = step.undo if job.state is JobState.COMPENSATING else step.do
        try:
            if act is not None:
                await self._held(saga, job, act)
        except NotYetError as wait:
            after_s, why = wait.after_s, str(wait)
            return await self._settle(job, lambda now: rules.waits(saga, now, self._now(), after_s, why), goes_on=False)
        except (LostError, asyncio.CancelledError):
            raise
        except _CancelledError:
            return await self._settle(job, lambda now: rules.waits(saga, now, self._now(), 0.0, ""))
        except Exception as error:
            said, is_impossible = str(error) or type(error).__name__, isinstance(error, ImpossibleError)
            if not is_impossible:
                _log.warning("%s: the step %s failed and will be tried again: %s", job.id, job.step, said)
            return await self._settle(
                job,
                lambda now: rules.failed(saga, now, self._now(), said, self._patience, is_impossible=is_impossible),
                goes_on=False,
            )  # fmt: skip
        return await self._settle(job, lambda now: rules.succeeded(saga, now, self._now()))

    async def _held(self, saga: Saga, job: Job, act: Act) -> None:
        """Run it while the lease is renewed; stopped when that is lost, or when it is to be undone."""
        doing = asyncio.ensure_future(act(_Turn(self._jobs, self._database, job, self._now)))
        until = self._now() + self._settings.lease_s
        try:
            while not doing.done():
                await asyncio.wait({doing}, timeout=self._settings.lease_s / BEATS)
                if doing.done():
                    break
                try:
                    async with self._database.writing() as on:
                        wished = self._now() + self._settings.lease_s
                        is_cancelled = await self._jobs.renew(on, job, wished)
                    until = wished
                except AwayError:
                    if self._now() >= until:
                        raise LostError(job.id) from None  # somebody else may have it by now
                    continue
                if is_cancelled and saga.cancel is None and rules.may_cancel(saga, job):
                    raise _CancelledError
            await doing
        finally:
            if not doing.done():
                doing.cancel()
                await asyncio.wait({doing})

    async def _settle(self, job: Job, decide: Callable[[Job], Standing], *, goes_on: bool = True) -> Job | None:
        """Write down what follows, decided on the row as it is now. Returns the job if it is to go on here at once."""
        async with self._database.writing() as on:
            standing = decide(await self._jobs.hold(on, job))
            stays = goes_on and not standing.has_ended
            until = self._now() + self._settings.lease_s if stays else None
            stood = await self._jobs.stand(on, job, standing, self._now(), until)
            if standing.has_ended:
                await self._ended(on, stood)
        return stood if stays else None

    async def _forget(self) -> None:
        async with self._database.writing() as on:
            await self._jobs.forget(on, self._now() - self._settings.kept_s, FORGOTTEN_AT_ONCE)
