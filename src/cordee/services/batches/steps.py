"""A batch as a saga. Nothing of it is undone: it goes forward until its files are stored, or ends early by being cancelled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from sqlalchemy.ext.asyncio import AsyncConnection

from cordee.services.base.saga import Act, Job, Saga, Step, Turn
from cordee.services.batches.asking import ask
from cordee.services.batches.keeping import cancel_job
from cordee.services.batches.service import Service
from cordee.services.batches.validating import validate
from cordee.services.batches.work import ASK, CLEAR, FINALIZE, KIND, VALIDATE
from cordee.services.batches.writing import clear, finalize


def batch_saga(service: Service) -> Saga:
    """What the runner is given."""

    def step(name: str, act: Callable[[Service, Turn], Awaitable[None]]) -> Step:
        return Step(name, bound(service, act), is_final=True)

    async def cancel(on: AsyncConnection, job: Job, _now: float) -> None:
        await cancel_job(service, on, job)

    steps = (step(VALIDATE, validate), step(ASK, ask), step(FINALIZE, finalize), step(CLEAR, clear))
    return Saga(KIND, steps, service.settings.batches_at_once, cancel)


def bound(service: Service, act: Callable[[Service, Turn], Awaitable[None]]) -> Act:
    """A step that knows its service."""

    async def bound_act(turn: Turn) -> None:
        await act(service, turn)

    return bound_act
