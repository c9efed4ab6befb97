"""The loop of an engine that computes vectors: take texts → compute → emit, in a thread of its own.

Commands come in through a queue, which is also what wakes the thread. One pass takes texts of many jobs, as `policy.texts` says. A
text that cannot be computed fails its job alone: the texts of a failed pass are computed one by one. Only if none of them can be
is the engine broken, and the process must end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cordee.domain.chunk import Finish
from cordee.engine.choice import Pending
from cordee.engine.job import Emission, Job, JobName, RowEntry, Tokens
from cordee.engine.loop import EngineBroken, StepFailed
from cordee.policy.texts import Texts

LOST_PASSES_MAX = 3  # in a row, in which nothing at all could be computed

Vectors = Sequence[NDArray[np.float32]]


class Embedder(Protocol):
    """The kernels, one pass at a time. Used by one thread only."""

    def compute(self, texts: Sequence[Tokens]) -> Vectors:
        """What becomes of each text. Raises StepFailed."""
        ...


class _Text:
    """One item of one job."""

    __slots__ = ("choice", "ids", "job")

    def __init__(self, job: Job, choice: int) -> None:
        self.job = job
        self.choice = choice
        self.ids: Tokens = np.asarray(job.items[choice].tokens, np.int32)

    def row(self, finish: Finish) -> RowEntry:
        connection, handle = self.job.name
        return connection, handle, self.choice, finish, 0, 0


class TextLoop:
    """`run` is the thread; everything else may be called from another one. `deliver` is called on the thread."""

    def __init__(
        self, embedder: Embedder, texts: Texts, now: Callable[[], float], deliver: Callable[[Emission], None]
    ) -> None:
        self._embedder = embedder
        self._waiting = texts
        self._now = now
        self._deliver = deliver
        self._commands: SimpleQueue[Job | JobName | None] = SimpleQueue()
        self._texts: dict[int, _Text] = {}
        self._jobs: dict[JobName, set[int]] = {}
        self._numbers = 0
        self._lost = 0
        self._pending = Pending()
        self.steps = 0  # passes so far; read from other threads, which need no lock to read a number

    def submit(self, job: Job) -> None:
        self._commands.put(job)

    def cancel(self, name: JobName) -> None:
        self._commands.put(name)

    def stop(self) -> None:
        self._commands.put(None)

    def run(self) -> None:
        """Until `stop`. Raises EngineBroken."""
        while self._obey():
            self.step()
            ready = self._pending.take()
            if ready is not None:
                self._deliver(ready)

    def step(self) -> None:
        """One pass, if anything waits. Raises EngineBroken."""
        now = self._now()
        for number in self._waiting.expired(now):
            self._end(number, Finish.EXPIRED)
        numbers = self._waiting.take(now)
        if not numbers:
            return
        self.steps += 1
        try:
            vectors = self._embedder.compute([self._texts[number].ids for number in numbers])
        except StepFailed as failure:
            self._one_by_one(numbers, str(failure))
            return
        self._lost = 0
        for number, vector in zip(numbers, vectors, strict=True):
            self._settle(number, vector)

    def _obey(self) -> bool:
        """All commands there are; waits for one if there is nothing else to do. False: stop."""
        try:
            command = self._commands.get(block=not len(self._waiting))
            while command is not None:
                if isinstance(command, Job):
                    self._begin(command)
                else:
                    self._cancel(command)
                command = self._commands.get_nowait()
        except Empty:
            return True
        return False

    def _begin(self, job: Job) -> None:
        now = self._now()
        numbers = self._jobs.setdefault(job.name, set())
        for choice in job.choices:
            self._numbers += 1
            text = self._texts[self._numbers] = _Text(job, choice)
            numbers.add(self._numbers)
            self._waiting.add(now, self._numbers, len(text.ids), job.priority, job.tenant, job.deadline_s)

    def _cancel(self, name: JobName) -> None:
        for number in self._jobs.pop(name, ()):
            self._forget(number)
        self._pending.cancelled.append(name)

    def _forget(self, number: int) -> None:
        del self._texts[number]
        self._waiting.remove(number)

    def _end(self, number: int, why: Finish) -> None:
        """A text is done with; the others of its job go on."""
        text = self._texts.pop(number)
        self._pending.rows.append(text.row(why))
        numbers = self._jobs[text.job.name]
        numbers.discard(number)
        if not numbers:
            del self._jobs[text.job.name]

    def _settle(self, number: int, vector: NDArray[np.float32]) -> None:
        if number not in self._texts:
            return  # its job failed by another text a moment ago
        if not np.isfinite(vector).all():
            self._fail(number, "its vector is not made of finite numbers")
            return
        text = self._texts[number]
        self._pending.results.append((text.job.name, text.choice, vector.astype("<f4").tobytes()))
        self._end(number, Finish.STOP)

    def _fail(self, number: int, why: str) -> None:
        """A text cannot be computed, which ends its job: the others are forgotten without a word."""
        text = self._texts[number]
        self._pending.rows.append(text.row(Finish.FAILED))
        self._pending.failures.append((text.job.name, f"item {text.choice} of {len(text.ids)} tokens: {why}"))
        for other in self._jobs.pop(text.job.name):
            self._forget(other)

    def _one_by_one(self, numbers: Sequence[int], why: str) -> None:
        """Those that fail alone are at fault."""
        failures: list[tuple[int, str]] = [(numbers[0], why)] if len(numbers) == 1 else []
        for number in numbers if len(numbers) > 1 else ():
            if number not in self._texts:
                continue  # its job failed a moment ago
            try:
                vectors = self._embedder.compute([self._texts[number].ids])
            except StepFailed as failure:
                failures.append((number, str(failure)))
            else:
                self._settle(number, vectors[0])
        alive = len(failures) < len(numbers)
        self._lost = 0 if alive else self._lost + 1
        if not alive and (len(numbers) > 1 or self._lost >= LOST_PASSES_MAX):
            raise EngineBroken(f"none of {len(numbers)} texts could be computed: {failures[0][1]}")
        for number, cause in failures:
            if number in self._texts:
                self._fail(number, cause)
