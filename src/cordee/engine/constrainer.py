"""Makes jobs ready that are held to a grammar, beside the step loop: what they have to wait for makes nobody else wait.

The vocabulary is indexed once, when the engine starts; a grammar is compiled for each job, because what the library remembers of one
grows with every answer and would some day reach its limit for everybody.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from llguidance import LLTokenizer

from cordee.domain.call import Grammar
from cordee.engine.constrain import Constraint, ConstraintError
from cordee.engine.job import Job, JobName
from cordee.kernels import grammar
from cordee.kernels.llama import Model

log = logging.getLogger(__name__)

THREADS = 2  # so that one large schema does not hold up all the others
Ready = Callable[[Job], None]
Failed = Callable[[JobName, str], None]


class Constrainer:
    """`ready` gets each job once it may run, `failed` hears of those that never can. All methods, and both of these, are called on
    the event loop's thread."""

    def __init__(self, model: Model, ready: Ready, failed: Failed) -> None:
        self._model = model
        self._ready = ready
        self._failed = failed
        self._ends = model.ends()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="grammars")
        self._index: Future[LLTokenizer] | None = None
        self._preparing: dict[JobName, Job] = {}

    def start(self) -> None:
        """Index the vocabulary."""
        self._index = self._pool.submit(grammar.tokenizer, self._model)

    def prepare(self, job: Job) -> None:
        """Have a job made ready. Only once `start` was called."""
        assert job.grammar is not None
        loop = asyncio.get_running_loop()
        self._preparing[job.name] = job
        compiled = self._pool.submit(self._constrained, job, job.grammar)
        compiled.add_done_callback(lambda done: self._tell(loop, job, done))

    def forget(self, name: JobName) -> None:
        """A job is not wanted any more: nothing more is said of it."""
        self._preparing.pop(name, None)

    def close(self) -> None:
        """Wait for what is being compiled, and compile no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    # -- on a thread of the pool

    def _constrained(self, job: Job, wanted: Grammar) -> Job:
        assert self._index is not None
        first = grammar.matcher(self._index.result(), wanted)
        constraints = [
            Constraint(first.deep_copy(), self._ends, output.tolist()) for output in job.outputs
        ]  # each its own: they go different ways
        return replace(job, constraints=tuple(constraints))

    def _tell(self, loop: asyncio.AbstractEventLoop, job: Job, done: Future[Job]) -> None:
        if done.cancelled():
            return
        try:
            loop.call_soon_threadsafe(self._done, job, done)
        except RuntimeError:
            return  # the event loop is closed: nobody is there to hear

    # -- on the event loop's

    def _done(self, job: Job, done: Future[Job]) -> None:
        if self._preparing.get(job.name) is not job:
            return  # it was cancelled meanwhile
        del self._preparing[job.name]
        error = done.exception()
        if error is None:
            self._ready(done.result())
        elif isinstance(error, grammar.GrammarError | ConstraintError):
            self._failed(job.name, f"the grammar cannot be used: {error}")
        else:
            log.error("a grammar met a mistake of ours", exc_info=error)
            self._failed(job.name, "an internal error met the grammar; the worker's log says more")
