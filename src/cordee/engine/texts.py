"""The loop of an engine that computes vectors, in one thread for each lane of the kernels: take texts → compute → emit.

Each lane goes its own way: with steps that all lanes begin and end together, half of them wait whenever texts come one by one. There
is no thread that hands out work either: a text that comes alone would wait for one more thread to wake. A lane that has nothing to
do waits for a *wake*; every command brings one, and a lane that leaves texts behind passes one on.

A lane takes texts of many jobs, as `policy.texts` says. A text that cannot be computed fails its job alone: the texts of a portion
that fails are computed one by one. Only if nothing can be, whosever it is, is the engine broken, and the process must end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cordee.domain.chunk import Finish
from cordee.engine.choice import Pending
from cordee.engine.job import Emission, Job, JobName, RowEntry, Tokens
from cordee.engine.loop import EngineBroken, StepFailed
from cordee.policy.texts import Texts

LOST_PORTIONS_MAX = 3  # in a row, in which nothing at all could be computed; of different jobs, since a job fails once

Vectors = Sequence[NDArray[np.float32]]
Found = NDArray[np.float32] | StepFailed  # of one text: its vector, or why there is none


class Embedder(Protocol):
    """The kernels. Each lane is used by one thread only."""

    def compute(self, lane: int, texts: Sequence[Tokens]) -> Vectors:
        """What becomes of each text. Raises StepFailed."""
        ...


@dataclass(frozen=True, slots=True)
class Portion:
    """What a lane has to do. `numbers`: the texts as the loop knows them."""

    numbers: Sequence[int]
    texts: Sequence[Tokens]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a portion."""

    numbers: Sequence[int]
    found: Sequence[Found]


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
    """`run` is the thread of one lane; everything else may be called from any other. `deliver` is called on those threads, by one at
    a time and in order."""

    def __init__(
        self, embedder: Embedder, texts: Texts, now: Callable[[], float], deliver: Callable[[Emission], None]
    ) -> None:
        self._embedder = embedder
        self._waiting = texts
        self._now = now
        self._deliver = deliver
        self._commands: deque[Job | JobName] = deque()  # the link has counted, so that there is an end to them
        self._wakes: SimpleQueue[None] = SimpleQueue()
        self._turn = Lock()  # never held while anything is computed, and not needed to give a command
        self._resting = 0
        self._is_stopped = False
        self._texts: dict[int, _Text] = {}
        self._jobs: dict[JobName, set[int]] = {}
        self._numbers = 0
        self._lost = 0
        self._pending = Pending()
        self.steps = 0  # portions so far; read from other threads, which need no lock to read a number

    def submit(self, job: Job) -> None:
        self._commands.append(job)
        self._wakes.put(None)

    def cancel(self, name: JobName) -> None:
        self._commands.append(name)
        self._wakes.put(None)

    def stop(self) -> None:
        self._is_stopped = True
        self._wakes.put(None)

    def run(self, lane: int) -> None:
        """Until `stop`. Raises EngineBroken."""
        outcome: Outcome | None = None
        try:
            while (portion := self._await(outcome)) is not None:
                outcome = computed(self._embedder, lane, portion)
        except Exception:
            self.stop()  # nothing more comes of the other lanes either
            raise

    def turn(self, outcome: Outcome | None) -> Portion | None:
        """Everything between two portions of a lane: tell what it has found, and take what it does next. None: nothing is there.
        Raises EngineBroken."""
        with suppress(Empty):
            while True:  # all there is to hear is heard now
                self._wakes.get_nowait()
        while self._commands:
            self._obey(self._commands.popleft())
        if outcome is not None:
            self._settle(outcome)
        portion = self._take()
        ready = self._pending.take()
        if ready is not None:
            self._deliver(ready)
        return portion

    def _await(self, outcome: Outcome | None) -> Portion | None:
        """The next portion, as soon as there is one. None: stop. Raises EngineBroken."""
        rested = 0
        while True:
            with self._turn:
                self._resting -= rested
                portion = None if self._is_stopped else self.turn(outcome)
                if self._is_stopped or (len(self._waiting) and self._resting):
                    self._wakes.put(None)  # for another lane
                if self._is_stopped or portion is not None:
                    return portion
                outcome, rested = None, 1
                self._resting += rested
            self._wakes.get()

    def _obey(self, command: Job | JobName) -> None:
        if isinstance(command, Job):
            self._begin(command)
        else:
            self._cancel(command)

    def _take(self) -> Portion | None:
        now = self._now()
        for number in self._waiting.expired(now):
            self._end(number, Finish.EXPIRED)
        numbers = self._waiting.take(now)
        if not numbers:
            return None
        self.steps += 1
        return Portion(numbers, [self._texts[number].ids for number in numbers])

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

    def _settle(self, outcome: Outcome) -> None:
        """What a lane has found. Raises EngineBroken."""
        self._look_for_life(outcome)
        for number, found in zip(outcome.numbers, outcome.found, strict=True):
            if number not in self._texts:
                continue  # its job was cancelled, or failed by another text
            if isinstance(found, StepFailed):
                self._fail(number, str(found))
            elif not np.isfinite(found).all():
                self._fail(number, "its vector is not made of finite numbers")
            else:
                self._complete(number, found)

    def _look_for_life(self, outcome: Outcome) -> None:
        """Raises EngineBroken where it is not the texts' fault that they cannot be computed: those of several jobs cannot."""
        failures = [str(found) for found in outcome.found if isinstance(found, StepFailed)]
        if len(failures) < len(outcome.numbers):
            self._lost = 0
            return
        jobs = {self._texts[number].job.name for number in outcome.numbers if number in self._texts}
        self._lost += bool(jobs)
        if len(jobs) > 1 or self._lost >= LOST_PORTIONS_MAX:
            raise EngineBroken(f"none of {len(failures)} texts could be computed: {failures[0]}")

    def _complete(self, number: int, vector: NDArray[np.float32]) -> None:
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


def computed(embedder: Embedder, lane: int, portion: Portion) -> Outcome:
    """Those texts of a portion that fails are at fault that fail alone."""
    found: list[Found] = []
    try:
        found.extend(embedder.compute(lane, portion.texts))
    except StepFailed as failure:
        if len(portion.texts) == 1:
            found = [failure]
        else:
            found = [_alone(embedder, lane, text) for text in portion.texts]
    return Outcome(portion.numbers, found)


def _alone(embedder: Embedder, lane: int, text: Tokens) -> Found:
    try:
        return embedder.compute(lane, [text])[0]
    except StepFailed as failure:
        return failure
