"""Long work as a saga: ordered steps, each of which may be done twice with one effect, and undone where it can be.

Decides what follows when a step has succeeded, must wait, has failed, or was cancelled; pure, `now` is an argument, and touches
nothing. `jobs.py` keeps where each saga is, `runner.py` runs them. After H. Garcia-Molina and K. Salem, "Sagas" (1987): steps that can
be undone come first; behind the first *final* one, which cannot, the saga only goes forward, however long that takes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.domain.record import record

ERROR_CHARACTERS_MAX = 512
_DOUBLINGS_MAX = 32  # beyond it every wait is the longest one anyhow


class JobState(StrEnum):
    """Where a job is. The last three are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPENSATING = "compensating"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({JobState.DONE, JobState.FAILED, JobState.CANCELLED})


@record
class Job:
    """One saga that runs or ran. `tenant` and `subject`: for whom; `data`: what its steps need, as JSON; `step`: the one that is done
    or undone next; `tries`: of that step, failed so far; `next_at`: not before this; `fence`: which taking of the lease this is, so
    that who lost it is known; times in seconds of the epoch."""

    id: str
    kind: str
    tenant: str
    subject: str
    data: str
    state: JobState
    step: str
    tries: int
    next_at: float
    error: str
    is_cancelled: bool
    fence: int
    created_at: float
    changed_at: float
    ended_at: float | None


class Turn(Protocol):
    """What a step is given: the job, and the certainty that nobody else has taken it over."""

    @property
    def job(self) -> Job: ...

    @property
    def key(self) -> str:
        """Names this step of this job, for the Idempotency-Key of what it asks others to do."""
        ...

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction of the service's database that is committed only while this process holds the job. Raises LostError."""
        ...

    async def others_wait(self) -> bool:
        """Whether jobs of this kind are due that nobody has taken: a long step then does well to raise NotYetError."""
        ...


Act = Callable[[Turn], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Step:
    """`do` and `undo` may run more than once, and after a crash in the middle of themselves; the effect is that of once. `undo`:
    None where nothing is to be undone. `is_final`: what it does cannot be undone."""

    name: str
    do: Act
    undo: Act | None = None
    is_final: bool = False


Cancel = Callable[[AsyncConnection, Job, float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Saga:
    """One kind of job. `at_once`: how many one process runs. `cancel`: how work of this kind ends early when it has a way of its own
    (in the transaction, the job and now are given); without it the steps are undone."""

    kind: str
    steps: tuple[Step, ...]
    at_once: int
    cancel: Cancel | None = None

    def __post_init__(self) -> None:
        assert self.steps, "a saga has steps"
        assert len({step.name for step in self.steps}) == len(self.steps), "each step has a name of its own"

    def index(self, name: str) -> int | None:
        """Where a step stands; None for one that another version of this program knew."""
        return next((at for at, step in enumerate(self.steps) if step.name == name), None)


class NotYetError(Exception):
    """Raised by a step that has done a piece and wants to be done again, `after_s` from now. It is no failure."""

    def __init__(self, after_s: float = 0.0, why: str = "") -> None:
        super().__init__(why)
        self.after_s = after_s


class ImpossibleError(Exception):
    """Raised by a step that will never succeed. The message is shown to whom the job belongs to."""


class LostError(Exception):
    """The lease has ended and another process has the job, or it is gone: nothing that this one still writes may count."""


@record
class Patience:
    """How often and how long a step is tried. `tries_max` only counts for what can still be undone."""

    tries_max: int
    backoff_s: float
    backoff_s_max: float

    def wait_s(self, tries: int) -> float:
        """Before the next try, after this many failed ones."""
        return min(self.backoff_s_max, self.backoff_s * 2.0 ** min(tries - 1, _DOUBLINGS_MAX))


@record
class Standing:
    """Where a job is after something happened to it."""

    state: JobState
    step: str
    tries: int
    next_at: float
    error: str
    ended_at: float | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


def may_cancel(saga: Saga, job: Job) -> bool:
    """Whether all that was begun can be undone, or the kind has its own way to end early."""
    if job.state in ENDED or job.state is JobState.COMPENSATING:
        return False
    return saga.cancel is not None or job.state is JobState.QUEUED or not _is_past_undoing(saga, job)


def begun(saga: Saga, job: Job, now: float) -> Standing:
    """A job that was claimed."""
    if _is_to_be_undone(saga, job):
        return _back_from(saga, job, now, "cancelled", includes_current=job.state is not JobState.QUEUED)
    state = JobState.RUNNING if job.state is JobState.QUEUED else job.state
    return Standing(state, job.step, job.tries, job.next_at, job.error)


def succeeded(saga: Saga, job: Job, now: float) -> Standing:
    """Its step was done, or undone."""
    at = _index(saga, job)
    if job.state is JobState.COMPENSATING:
        if at == 0:
            return _given_up(job, now)
        return Standing(JobState.COMPENSATING, saga.steps[at - 1].name, 0, now, job.error)
    if _is_to_be_undone(saga, job):
        return _back_from(saga, job, now, "cancelled")
    if at + 1 == len(saga.steps):
        return Standing(JobState.DONE, job.step, 0, now, "", now)
    return Standing(JobState.RUNNING, saga.steps[at + 1].name, 0, now, "")


def waits(saga: Saga, job: Job, now: float, after_s: float, why: str) -> Standing:
    """Its step wants to be done again later."""
    if _is_to_be_undone(saga, job):
        return _back_from(saga, job, now, "cancelled")
    error = job.error if job.state is JobState.COMPENSATING else why[:ERROR_CHARACTERS_MAX]
    return Standing(job.state, job.step, 0, now + after_s, error)


def failed(saga: Saga, job: Job, now: float, why: str, patience: Patience, *, is_impossible: bool = False) -> Standing:
    """Its step raised. Undoing is tried for ever; so is what stands behind a final step, unless it is impossible."""
    why, tries = why[:ERROR_CHARACTERS_MAX], job.tries + 1
    again = Standing(job.state, job.step, tries, now + patience.wait_s(tries), why)
    if job.state is JobState.COMPENSATING:
        return again
    if _is_past_undoing(saga, job):
        return Standing(JobState.FAILED, job.step, tries, now, why, now) if is_impossible else again
    if is_impossible or tries >= patience.tries_max or _is_to_be_undone(saga, job):
        return _back_from(saga, job, now, why)
    return again


def _back_from(saga: Saga, job: Job, now: float, why: str, *, includes_current: bool = True) -> Standing:
    """Undo everything up to the current step, which may have been done in part."""
    if not includes_current:
        return _given_up(job, now)
    return Standing(JobState.COMPENSATING, saga.steps[_index(saga, job)].name, 0, now, why)


def _given_up(job: Job, now: float) -> Standing:
    state = JobState.CANCELLED if job.is_cancelled else JobState.FAILED
    return Standing(state, job.step, 0, now, "" if job.is_cancelled else job.error, now)


def _is_to_be_undone(saga: Saga, job: Job) -> bool:
    is_going = job.state in (JobState.QUEUED, JobState.RUNNING)
    return job.is_cancelled and is_going and saga.cancel is None and may_cancel(saga, job)


def _is_past_undoing(saga: Saga, job: Job) -> bool:
    return any(step.is_final for step in saga.steps[: _index(saga, job) + 1])


def _index(saga: Saga, job: Job) -> int:
    at = saga.index(job.step)
    assert at is not None, "the runner leaves jobs alone whose step it does not know"
    return at
