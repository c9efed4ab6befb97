"""The engine on llama.cpp: a runner that fills its batch, and the thread that drives it.

Rows go in as the planner ordered them: by slot, ascending. Logits come back one line per wanted row, in batch order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from threading import Thread

import numpy as np

from cordee.domain.replica import Capacity, ModelCard
from cordee.engine.job import Broken, Deliver, Emission, Job, JobName, Tokens
from cordee.engine.loop import StepFailed, StepLoop
from cordee.engine.sample import Matrix, Sampler
from cordee.kernels.context import Context
from cordee.policy.batch import Chunk, Limits, Planner

STOP_S_MAX = 30.0  # a step that is under way ends first; a long prompt on a slow machine takes seconds


class LlamaRunner:
    """One context, used by one thread."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._empty: Matrix = np.empty((0, context.model.size), np.float32)

    def run(self, chunks: Sequence[Chunk], tokens: Sequence[Tokens]) -> Matrix:
        context = self._context
        rows = wanted = 0
        for chunk, ids in zip(chunks, tokens, strict=True):
            end = rows + chunk.count
            if chunk.count == 1:
                context.tokens[rows] = ids[0]
                context.positions[rows] = chunk.start
                context.slots[rows] = chunk.slot
            else:
                context.tokens[rows:end] = ids
                context.positions[rows:end] = np.arange(chunk.start, chunk.start + chunk.count)
                context.slots[rows:end] = chunk.slot
                context.wanted[rows:end] = 0
            context.wanted[end - 1] = chunk.last
            wanted += chunk.last
            rows = end
        code = context.decode(rows)
        if code:
            raise StepFailed(
                f"llama.cpp could not decode {rows} rows (code {code}): {context.model.library.complaints()}"
            )
        return context.logits(wanted) if wanted else self._empty

    def copy(self, source: int, target: int, tokens: int) -> bool:
        self._context.copy(source, target)
        if self._context.cut(target, tokens):
            return True
        self._context.cut(target, 0)
        return False

    def cut(self, slot: int, tokens: int) -> None:
        if not self._context.cut(slot, tokens):
            raise StepFailed(f"llama.cpp could not cut slot {slot} to {tokens} tokens")


class LlamaEngine:
    """Takes jobs on the event loop's thread, computes on its own, delivers on the event loop's."""

    def __init__(self, context: Context, card: ModelCard, limits: Limits) -> None:
        self.card = card
        self.capacity = Capacity(limits.slots, limits.slots * card.context)
        self._context = context
        self._limits = limits
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: Thread | None = None
        self._deliver: Deliver | None = None
        self._broken: Broken | None = None
        ends = context.model.ends()
        self._steps = StepLoop(
            runner=LlamaRunner(context),
            planner=Planner(limits),
            sampler=Sampler(card.vocabulary, ends),
            ends=frozenset(ends),
            context=card.context,
            now=time.monotonic,
            deliver=self._hand_over,
        )

    @property
    def steps(self) -> int:
        return self._steps.steps

    def start(self, deliver: Deliver, broken: Broken) -> None:
        assert self._thread is None, "an engine starts once"
        self._loop = asyncio.get_running_loop()
        self._deliver, self._broken = deliver, broken
        self._thread = Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        self._steps.submit(job)

    def cancel(self, name: JobName) -> None:
        self._steps.cancel(name)

    def stop(self) -> None:
        """Waits for the step under way, then frees the context. Without effect if the engine never started."""
        if self._thread is None:
            return
        self._steps.stop()
        self._thread.join(STOP_S_MAX)
        if not self._thread.is_alive():  # else the kernels still use it, and the process is about to end anyway
            self._context.close()
            self._context.model.close()

    def _run(self) -> None:
        try:
            self._steps.run()
        except Exception as error:  # whatever it was: the process must not live on without its engine
            self._tell(f"{type(error).__name__}: {error}")

    def _hand_over(self, ready: Emission) -> None:
        assert self._loop is not None
        assert self._deliver is not None
        try:
            self._loop.call_soon_threadsafe(self._deliver, ready)
        except RuntimeError:
            self._steps.stop()  # the event loop is closed: nobody is there to hear

    def _tell(self, why: str) -> None:
        assert self._loop is not None
        assert self._broken is not None
        try:
            self._loop.call_soon_threadsafe(self._broken, why)
        except RuntimeError:
            return  # the event loop is closed: the process is ending already
