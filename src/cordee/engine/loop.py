"""The step loop: plan → decode → sample → emit, in a thread of its own.

Commands come in through a queue, which is also what wakes the thread: with nothing to do it sleeps. Each step hands one
emission out. A sequence that cannot be computed fails alone: the step is undone and its sequences run one by one. Only
if nothing can be computed any more is the engine broken, and the process must end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Protocol

import numpy as np

from cordee.domain.chunk import Finish
from cordee.engine.choice import Choice, Pending
from cordee.engine.job import Emission, Job, JobName, Tokens
from cordee.engine.sample import Draw, Matrix, Sampler
from cordee.policy.batch import Chunk, Planner

LOST_STEPS_MAX = 3  # steps in a row in which nothing at all could be computed


class StepFailed(Exception):
    """The kernels could not run a step; the message says what they said."""


class EngineBroken(Exception):
    """No step can be run any more."""


class Runner(Protocol):
    """The kernels, one step at a time. Used by one thread only."""

    def run(self, chunks: Sequence[Chunk], tokens: Sequence[Tokens]) -> Matrix:
        """Compute the chunks; `tokens[i]` are those of `chunks[i]`. One row of logits for each chunk that is `last`, in
        order, valid until the next call. Raises StepFailed, after which `cut` must restore each slot."""
        ...

    def copy(self, source: int, target: int, tokens: int) -> bool:
        """Make slot `target` the first `tokens` tokens of slot `source`; False where that cannot be done."""
        ...

    def cut(self, slot: int, tokens: int) -> None:
        """Keep only the first `tokens` tokens of a slot."""
        ...


class StepLoop:
    """`run` is the thread; everything else may be called from another one. `deliver` is called on the thread."""

    def __init__(
        self,
        runner: Runner,
        planner: Planner,
        sampler: Sampler,
        ends: frozenset[int],
        context: int,
        now: Callable[[], float],
        deliver: Callable[[Emission], None],
    ) -> None:
        self._runner = runner
        self._planner = planner
        self._sampler = sampler
        self._ends = ends
        self._context = context
        self._now = now
        self._deliver = deliver
        self._commands: SimpleQueue[Job | JobName | None] = SimpleQueue()
        self._choices: dict[int, Choice] = {}
        self._jobs: dict[JobName, list[int]] = {}
        self._keys = 0
        self._lost = 0
        self._pending = Pending()
        self.steps = 0  # run so far; read from other threads, which need no lock to read a number

    def submit(self, job: Job) -> None:
        self._commands.put(job)

    def cancel(self, name: JobName) -> None:
        self._commands.put(name)

    def stop(self) -> None:
        self._commands.put(None)

    def run(self) -> None:
        """Until `stop`. Raises EngineBroken."""
        while self._obey():
            if not self._planner.idle():
                self.step()
                self.steps += 1
            ready = self._pending.take()
            if ready is not None:
                self._deliver(ready)

    def _obey(self) -> bool:
        """All commands there are; waits for one if there is nothing else to do. False: stop."""
        try:
            command = self._commands.get(block=self._planner.idle())
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
        leader: int | None = None
        for choice, output in zip(job.choices, job.outputs, strict=True):
            known = len(job.prompt) + len(output)
            most = min(self._context, len(job.prompt) + job.max_tokens)
            ids: Tokens = np.empty(max(known, most), np.int32)
            ids[: len(job.prompt)] = job.prompt
            ids[len(job.prompt) : known] = output
            sequence = Choice(job, choice, output, ids, known)
            if known >= most:
                self._pending.rows.append(sequence.row(Finish.LENGTH, 0))
                continue
            self._keys += 1
            self._choices[self._keys] = sequence
            self._jobs.setdefault(job.name, []).append(self._keys)
            shared = min(len(job.prompt), known - 1)
            self._planner.add(self._keys, known, job.priority, job.deadline_s, leader, shared)
            leader = self._keys if leader is None else leader

    def _cancel(self, name: JobName) -> None:
        for key in self._jobs.pop(name, ()):
            self._forget(key)
        self._pending.cancelled.append(name)

    def _forget(self, key: int) -> None:
        """A sequence is over: its slot is empty and free."""
        del self._choices[key]
        slot = self._planner.remove(key)
        if slot is not None:
            self._runner.cut(slot, 0)

    def _end(self, key: int, why: Finish) -> None:
        """A choice is complete; the others of its job go on."""
        choice = self._choices[key]
        self._pending.rows.append(choice.row(why, 0))
        keys = self._jobs[choice.job.name]
        keys.remove(key)
        if not keys:
            del self._jobs[choice.job.name]
        self._forget(key)

    def _fail(self, key: int, why: str) -> None:
        """A choice cannot be computed, which ends its job: the others are forgotten without a word."""
        choice = self._choices[key]
        name = choice.job.name
        self._pending.rows.append(choice.row(Finish.FAILED, 0))
        self._pending.failures.append((name, why))
        for other in self._jobs.pop(name):
            self._forget(other)

    def step(self) -> None:
        """One step of everything that the planner says. Raises EngineBroken."""
        plan = self._planner.plan(self._now())
        for slot in plan.freed:
            self._runner.cut(slot, 0)
        for key in plan.expired:
            self._end(key, Finish.EXPIRED)
        chunks: list[Chunk] = list(plan.chunks)
        for copy in plan.copies:
            if not self._runner.copy(copy.source, copy.target, copy.tokens):
                self._planner.uncached(copy.key)
                chunks = [chunk for chunk in chunks if chunk.key != copy.key]
        if not chunks:
            return
        try:
            logits = self._runner.run(chunks, [self._tokens(chunk) for chunk in chunks])
        except StepFailed:
            self._one_by_one(chunks)
            return
        self._lost = 0
        self._settle(chunks, logits)

    def _tokens(self, chunk: Chunk) -> Tokens:
        return self._choices[chunk.key].ids[chunk.start : chunk.start + chunk.count]

    def _one_by_one(self, chunks: Sequence[Chunk]) -> None:
        """Undo a failed step and run its sequences alone; those that fail alone are at fault."""
        for chunk in chunks:
            self._runner.cut(chunk.slot, chunk.start)
        failures: list[tuple[int, str]] = []
        for chunk in chunks:
            if chunk.key not in self._choices:
                continue  # its job failed a moment ago
            try:
                logits = self._runner.run([chunk], [self._tokens(chunk)])
            except StepFailed as failure:
                failures.append((chunk.key, str(failure)))
                self._runner.cut(chunk.slot, chunk.start)
            else:
                self._settle([chunk], logits)
        alive = len(failures) < len(chunks)
        self._lost = 0 if alive else self._lost + 1
        if failures and not alive and (len(chunks) > 1 or self._lost >= LOST_STEPS_MAX):
            raise EngineBroken(f"none of {len(chunks)} sequences could be computed: {failures[0][1]}")
        for key, why in failures:
            if key in self._choices:
                self._fail(key, why)

    def _settle(self, chunks: Sequence[Chunk], logits: Matrix) -> None:
        """Note what ran, draw the next tokens, emit them."""
        drawing: list[int] = []
        for chunk in chunks:
            self._planner.ran(chunk)
            if chunk.last:
                drawing.append(chunk.key)
        if not drawing:
            return
        choices = [self._choices[key] for key in drawing]
        draws = self._sampler.draw(logits, [c.voice for c in choices], [c.count for c in choices])
        for key, choice, draw in zip(drawing, choices, draws, strict=True):
            if key in self._choices:  # else its job failed by another choice a moment ago
                self._say(key, choice, draw)

    def _say(self, key: int, choice: Choice, draw: Draw) -> None:
        token = draw.token
        if token < 0:
            self._fail(key, f"the logits of output token {choice.count} are not finite numbers")
            return
        if token in self._ends:
            self._end(key, Finish.STOP)
            return
        pending = self._pending
        pending.rows.append(choice.row(Finish.NONE, token))
        if draw.logprobs is not None:
            connection, handle = choice.job.name
            alternatives = list(draw.logprobs.alternatives)
            pending.logprobs.append(
                (connection, (handle, choice.choice, choice.count, draw.logprobs.chosen, alternatives))
            )
        choice.ids[choice.known] = token
        choice.known += 1
        choice.count += 1
        choice.voice.said(token)
        if choice.known == len(choice.ids):
            self._end(key, Finish.LENGTH)
            return
        self._planner.extend(key)
