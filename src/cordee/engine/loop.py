"""The step loop: plan → arrange → decode → sample → emit, in a thread of its own.

Commands come in through a queue, which is also what wakes the thread: with nothing to do it sleeps. Each step hands one
emission out. A sequence that cannot be computed fails alone: the step is undone and its sequences run one by one. Only
if nothing can be computed any more is the engine broken, and the process must end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import assert_never

from cordee.domain.chunk import Finish
from cordee.engine.answers import Answers
from cordee.engine.figures import Counts
from cordee.engine.job import Emission, Job, JobName, Tokens
from cordee.engine.runner import EngineBroken, Runner, StepFailed
from cordee.engine.sample import Matrix, Sampler
from cordee.policy.batch import Chunk, Copy, Limits, Move, Operation, Planner, Restore, Save, Trim

__all__ = ["Adjustment", "EngineBroken", "Runner", "StepFailed", "StepLoop"]

LOST_STEPS_MAX = 3  # steps in a row in which nothing at all could be computed


@dataclass(frozen=True, slots=True)
class Adjustment:
    """Other limits from the next step on; `threads` of the kernels, 0 as they are."""

    limits: Limits
    threads: int = 0


class StepLoop:
    """`run` is the thread; everything else may be called from another one. `deliver` is called on the thread. `isolates`: tenants do
    not share what was computed of their prompts."""

    def __init__(
        self,
        runner: Runner,
        planner: Planner,
        sampler: Sampler,
        ends: frozenset[int],
        context: int,
        now: Callable[[], float],
        deliver: Callable[[Emission], None],
        *,
        isolates: bool = False,
    ) -> None:
        self._runner = runner
        self._planner = planner
        self._sampler = sampler
        self._now = now
        self._deliver = deliver
        self._commands: SimpleQueue[Job | JobName | Adjustment | None] = SimpleQueue()
        self._lost = 0
        self._adapter = ""  # in use
        self.counts = Counts()
        self._answers = Answers(planner, runner, ends, context, now, self.counts, isolates=isolates)
        self._choices = self._answers.choices
        self._pending = self._answers.pending
        self.began_s = 0.0  # when the kernels began what they are at; 0 while they rest

    @property
    def steps(self) -> int:
        """Run so far; read from other threads, which need no lock to read a number."""
        return self.counts.steps

    @property
    def parked(self) -> int:
        """Those that have made room for others and wait to go on."""
        return self._planner.parked

    def submit(self, job: Job) -> None:
        self._commands.put(job)

    def cancel(self, name: JobName) -> None:
        self._commands.put(name)

    def adjust(self, limits: Limits, threads: int = 0) -> None:
        """By these limits from the next step on; whoever runs, runs on. Raises ValueError for limits that the cache cannot hold."""
        self._planner.check(limits)
        self._commands.put(Adjustment(limits, threads))

    def stop(self) -> None:
        self._commands.put(None)

    def run(self) -> None:
        """Until `stop`. Raises EngineBroken."""
        while self._obey():
            if not self._planner.idle():
                began_s = self._now()
                self.step()
                self.counts.steps += 1
                self.counts.step_s += self._now() - began_s
            ready = self._pending.take()
            if ready is not None:
                self._deliver(ready)

    # -- commands

    def _obey(self) -> bool:
        """All commands there are; waits for one if there is nothing else to do. False: stop."""
        try:
            command = self._commands.get(block=self._planner.idle())
            while command is not None:
                if isinstance(command, Job):
                    self._answers.begin(command)
                elif isinstance(command, Adjustment):
                    self._planner.adjust(command.limits)
                    if command.threads:
                        self._runner.set_threads(command.threads)
                else:
                    self._answers.cancel(command)
                command = self._commands.get_nowait()
        except Empty:
            return True
        return False

    # -- a step

    def step(self) -> None:
        """One step of everything that the planner says. Raises EngineBroken."""
        plan = self._planner.plan(self._now())
        for key in plan.expired:
            self._answers.end(key, Finish.EXPIRED)
        broken = self._arrange(plan.operations) if plan.operations else ()
        for key, tokens in plan.reused:
            self._answers.reused(key, tokens)
        for _, way in plan.parked:
            self.counts.preemptions[way] += 1
        chunks: Sequence[Chunk] = plan.chunks
        if broken:
            chunks = [chunk for chunk in chunks if chunk.slot not in broken]
        if not self._answers.adapted and not self._adapter:
            together = [[chunk] for chunk in chunks] if plan.apart else [chunks]
            for those in together:
                if not plan.apart or those[0].key in self._choices:  # else its job failed a moment ago
                    self._run_group(those, learns=not plan.operations)
            return
        adapter_of = {chunk.key: self._choices[chunk.key].job.adapter for chunk in chunks}
        for _, group in groupby(
            sorted(chunks, key=lambda one: adapter_of[one.key]), key=lambda one: adapter_of[one.key]
        ):
            alive = [chunk for chunk in group if chunk.key in self._choices]
            if alive and self._take_up(adapter_of[alive[0].key], alive):
                self._run_group(alive, learns=False)

    def _arrange(self, operations: Sequence[Operation]) -> set[int]:
        """Bring the slots into the state that the plan starts from. Returns those that are empty instead."""
        broken: set[int] = set()
        for operation in operations:
            slot = self._carry_out(operation)
            if slot is not None:
                self._planner.failed(operation)
                broken.add(slot)
        return broken

    def _carry_out(self, operation: Operation) -> int | None:
        """Returns the slot that is empty instead of what was planned; None: all is well."""
        runner = self._runner
        match operation:
            case Trim():
                try:
                    runner.cut(operation.slot, operation.tokens)
                except StepFailed:
                    runner.cut(operation.slot, 0)
                    return operation.slot
            case Copy() | Move():
                if not runner.copy(operation.source, operation.target, operation.tokens):
                    return operation.target
            case Save():
                began_s = self._now()
                size = runner.save(operation.slot, operation.key)
                self._planner.cost.note_moved(size, self._now() - began_s)
                if not size:
                    self._planner.failed(operation)
            case Restore():
                began_s = self._now()
                size = runner.restore(operation.key, operation.slot)
                self._planner.cost.note_moved(size, self._now() - began_s)
                if not size:
                    return operation.slot
            case _:
                assert_never(operation)
        return None

    def _take_up(self, adapter: str, chunks: Sequence[Chunk]) -> bool:
        """Use this adapter from now on. False: it cannot be used, and those that wanted it have failed."""
        if adapter == self._adapter:
            return True
        try:
            self._runner.use(adapter)
        except StepFailed as failure:
            for chunk in chunks:
                if chunk.key in self._choices:
                    self._answers.fail(chunk.key, str(failure))
            return False
        self._adapter = adapter
        return True

    def _run_group(self, chunks: Sequence[Chunk], *, learns: bool) -> None:
        """Run chunks together. `learns`: the time they take is what they cost."""
        if not chunks:
            return
        self.began_s = began_s = self._now()
        try:
            logits = self._runner.run(chunks, [self._tokens(chunk) for chunk in chunks])
        except StepFailed:
            self.began_s = 0.0
            self._one_by_one(chunks)
            return
        self.began_s = 0.0
        took_s = self._now() - began_s
        self.counts.kernel_s += took_s
        if learns:
            prompts = [(chunk.start, chunk.count) for chunk in chunks if chunk.count > 1]
            self._planner.cost.note_step(len(chunks) - len(prompts), prompts, took_s)
        self._lost = 0
        self._settle(chunks, logits)

    def _tokens(self, chunk: Chunk) -> Tokens:
        return self._choices[chunk.key].ids[chunk.start : chunk.start + chunk.count]

    def _one_by_one(self, chunks: Sequence[Chunk]) -> None:
        """Undo a failed step and run its sequences alone; those that fail alone are at fault."""
        for chunk in chunks:
            self._undo(chunk)
        failures: list[tuple[int, str]] = []
        for chunk in chunks:
            if chunk.key not in self._choices:
                continue  # its job failed a moment ago
            self.began_s = self._now()
            try:
                logits = self._runner.run([chunk], [self._tokens(chunk)])
            except StepFailed as failure:
                failures.append((chunk.key, str(failure)))
                self._undo(chunk)
            else:
                self.began_s = 0.0
                self._settle([chunk], logits)
        self.began_s = 0.0
        alive = len(failures) < len(chunks)
        self._lost = 0 if alive else self._lost + 1
        if failures and not alive and (len(chunks) > 1 or self._lost >= LOST_STEPS_MAX):
            raise EngineBroken(f"none of {len(chunks)} sequences could be computed: {failures[0][1]}")
        for key, why in failures:
            if key in self._choices:
                self._answers.fail(key, why)

    def _undo(self, chunk: Chunk) -> None:
        self._runner.cut(chunk.slot, chunk.start)

    # -- what a step gave

    def _settle(self, chunks: Sequence[Chunk], logits: Matrix) -> None:
        """Note what ran, draw the next tokens, emit them."""
        drawing: list[int] = []
        rows: list[int] = []
        at = 0
        for chunk in chunks:
            if chunk.key not in self._choices:
                at += chunk.wanted
                continue  # its job failed by another item a moment ago
            self._planner.ran(chunk)
            if chunk.scored:
                self._answers.score(chunk, logits[at : at + chunk.scored])
            elif chunk.last:
                drawing.append(chunk.key)
                rows.append(at)
            at += chunk.wanted
        if not drawing:
            return
        if at != len(rows):
            logits = logits[rows]  # the others were scored
        choices = [self._choices[key] for key in drawing]
        draws = self._sampler.draw(logits, [c.voice for c in choices], [c.count for c in choices])
        for key, choice, draw in zip(drawing, choices, draws, strict=True):
            if key in self._choices:  # else its job failed by another choice a moment ago
                self._answers.say(key, choice, draw)
