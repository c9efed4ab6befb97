"""The engine on llama.cpp: a runner that fills its batch, and the thread that drives it.

Rows go in as the planner ordered them: by slot, ascending. Logits come back one line per wanted row, in batch order.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from cordee.domain.replica import Capacity, EngineFigures, ModelCard
from cordee.engine.constrainer import Constrainer
from cordee.engine.figures import figures_of
from cordee.engine.job import Broken, Deliver, Job, JobName, Tokens, emission
from cordee.engine.loop import StepFailed, StepLoop
from cordee.engine.sample import Matrix, Sampler
from cordee.engine.thread import STOP_S_MAX, EngineThread
from cordee.engine.watchdog import Watchdog
from cordee.kernels.adapters import Adapters
from cordee.kernels.context import Context, State
from cordee.policy.batch import Chunk, Limits, Planner

STEP_S_MAX = 30.0  # a step that takes longer is stopped


class LlamaRunner:
    """One context, used by one thread. `adapters`: those of its model, None for none."""

    def __init__(self, context: Context, adapters: Adapters | None = None) -> None:
        self._context = context
        self._adapters = adapters
        self._empty: Matrix = np.empty((0, context.model.size), np.float32)
        self._saved: dict[int, State] = {}
        self._copies = False  # asked for, to be made when the next step begins: until then a slot does not hold them

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
            if chunk.wanted:
                context.wanted[end - chunk.wanted : end] = 1
            elif chunk.count == 1:
                context.wanted[rows] = 0
            wanted += chunk.wanted
            rows = end
        self._copies = False
        code = context.decode(rows)
        if code:
            raise StepFailed(
                f"llama.cpp could not decode {rows} rows (code {code}): {context.model.library.complaints()}"
            )
        return context.logits(wanted) if wanted else self._empty

    def use(self, adapter: str) -> None:
        if self._adapters is not None and (not adapter or adapter in self._adapters.names):
            self._adapters.use(self._context, adapter)
        elif adapter:
            raise StepFailed(f"the adapter {adapter!r} is not loaded")

    def copy(self, source: int, target: int, tokens: int) -> bool:
        self._context.copy(source, target)
        self._copies = True
        if self._context.cut(target, tokens):
            return True
        self._context.cut(target, 0)
        return False

    def cut(self, slot: int, tokens: int) -> None:
        if not self._context.cut(slot, tokens):
            raise StepFailed(f"llama.cpp could not cut slot {slot} to {tokens} tokens")

    def save(self, slot: int, key: int) -> int:
        state = None if self._copies else self._context.save(slot)
        if state is None:
            return 0
        self._saved[key] = state
        return state.size

    def restore(self, key: int, slot: int) -> int:
        state = self._saved.pop(key, None)
        if state is None or self._copies or not self._context.restore(slot, state):
            return 0
        return state.size

    def drop(self, key: int) -> None:
        self._saved.pop(key, None)

    def set_threads(self, threads: int) -> None:
        self._context.set_threads(threads)


class LlamaEngine:
    """Takes jobs on the event loop's thread, computes on its own, delivers on the event loop's. `isolates`: tenants do not share what
    was computed of their prompts. A step that takes longer than `step_s_max` is stopped."""

    def __init__(
        self,
        context: Context,
        card: ModelCard,
        limits: Limits,
        *,
        isolates: bool = False,
        step_s_max: float = STEP_S_MAX,
        adapters: Adapters | None = None,
    ) -> None:
        self.card = card
        self.capacity = Capacity(limits.slots, limits.slots * card.context)
        self._context = context
        self._limits = limits
        self._deliver: Deliver | None = None
        self._thread = EngineThread(lambda: self._steps.run(), lambda: self._steps.stop())
        self._constrainer = Constrainer(context.model, ready=self._begin, failed=self._fail)
        ends = context.model.ends()
        self._steps = StepLoop(
            runner=LlamaRunner(context, adapters),
            planner=Planner(limits),
            sampler=Sampler(card.vocabulary, ends),
            ends=frozenset(ends),
            context=card.context,
            now=time.monotonic,
            deliver=self._thread.hand_over,
            isolates=isolates,
        )
        self._watchdog = Watchdog(self._steps, step_s_max, time.monotonic, context.abort, self._thread.tell)

    @property
    def steps(self) -> int:
        return self._steps.steps

    @property
    def limits(self) -> Limits:
        """As they were set last."""
        return self._limits

    def figures(self) -> EngineFigures:
        """What it has counted since the start."""
        return figures_of(self._steps.counts, self._steps.parked, self._watchdog.aborted)

    def adjust(self, limits: Limits, threads: int = 0) -> None:
        """By these limits from the next step on, and on so many threads (0: as it is). Whoever runs, runs on. Raises ValueError for
        limits that the cache cannot hold."""
        self._steps.adjust(limits, threads)
        self._limits = limits
        self.capacity = Capacity(limits.slots, limits.slots * self.card.context)

    def start(self, deliver: Deliver, broken: Broken) -> None:
        self._deliver = deliver
        self._thread.start(deliver, broken)
        self._watchdog.start()
        self._constrainer.start()

    def submit(self, job: Job) -> None:
        if job.grammar is not None:
            self._constrainer.prepare(job)
            return
        self._begin(job)

    def cancel(self, name: JobName) -> None:
        self._constrainer.forget(name)
        self._steps.cancel(name)

    def _begin(self, job: Job) -> None:
        self._steps.submit(job)

    def _fail(self, name: JobName, why: str) -> None:
        assert self._deliver is not None
        self._deliver(emission((), failures=((name, why),)))

    def stop(self) -> None:
        """Waits for the step under way, then frees the context. Without effect if the engine never started."""
        if not self._thread.has_started:
            return
        self._constrainer.close()
        self._watchdog.stop()
        if self._thread.stop(0.0 if self._watchdog.is_lost else STOP_S_MAX):  # else the process is about to end anyway
            self._context.close()
            self._context.model.close()
