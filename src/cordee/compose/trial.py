"""One trial of engine settings: the engine's own loop on a real context, with made-up prompts, in the process that asks.

Either one long prompt is read alone; or all slots write, for as long as was asked or until they are full; and then, where that is
asked, a long prompt comes in beside them.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition, Thread

import numpy as np

from cordee.domain.call import Sampling
from cordee.domain.chunk import Finish
from cordee.engine.exactness import STRIDE
from cordee.engine.job import Emission, Job, Tokens
from cordee.engine.loop import StepLoop
from cordee.engine.runner_llama import LlamaRunner
from cordee.engine.sample import Sampler
from cordee.kernels.context import Context, ContextSettings
from cordee.kernels.library import KernelsError
from cordee.kernels.llama import Model
from cordee.policy.batch import Limits, Planner
from cordee.policy.tuning import Figures, Phase, Trial

CONTEXT = 512  # tokens of a slot
LONG, SHORT = 256, 2  # tokens of a prompt
BATCH = 512  # rows of a step
PATIENCE_S = 120.0  # for any one answer; a model that needs longer is no good on this machine
STEPS_MIN = 4  # of writing, however long they take
CONNECTION = 1
SLOWEST = 95  # percentile of the times between tokens


class Diary:
    """When the engine said what. Written on its thread, read on another."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._times: list[float] = []
        self._tokens: list[int] = []
        self._begun: set[int] = set()
        self._ended = False  # a writer
        self._failure = ""

    def note(self, ready: Emission) -> None:
        with self._changed:
            if ready.failures:
                self._failure = ready.failures[0][1]
            self._ended |= bool(((ready.rows["finish"] != Finish.NONE) & (ready.rows["handle"] > 0)).any())
            tokens = int((ready.rows["finish"] == Finish.NONE).sum())
            if tokens:
                self._times.append(time.monotonic())
                self._tokens.append(tokens)
                self._begun.update(ready.rows["handle"].tolist())
            self._changed.notify_all()

    def wait_until_begun(self, handles: set[int]) -> float:
        """When all of them have said something. Raises KernelsError after two minutes."""
        with self._changed:
            done = self._changed.wait_for(lambda: handles <= self._begun or bool(self._failure), PATIENCE_S)
            if self._failure:
                raise KernelsError(self._failure)
            if not done:
                raise KernelsError(
                    f"no first token within {PATIENCE_S:g} s: this model is too large for this machine, or it is busy"
                )
            return time.monotonic()

    def wait_until_written(self, seconds: float) -> float:
        """When the last step was done: of so much time and at least a few steps, or before a writer was full."""
        with self._changed:
            enough = len(self._times) + STEPS_MIN
            self._changed.wait_for(lambda: self._ended, seconds)
            self._changed.wait_for(lambda: self._ended or len(self._times) >= enough, PATIENCE_S)
            return self._times[-1]

    def between(self, start_s: float, end_s: float) -> tuple[int, list[float]]:
        """Tokens after `start_s` until `end_s`, and the gaps before the steps that gave them."""
        with self._changed:
            inside = [i for i, at in enumerate(self._times) if start_s < at <= end_s]
            gaps = [self._times[i] - self._times[i - 1] for i in inside if i]
            return sum(self._tokens[i] for i in inside), gaps


def measure(model: Model, trial: Trial, phase: Phase, seconds: float, stretch_max: float, *, exact: bool) -> Figures:
    """`seconds` of writing. `stretch_max`: the setting engine.stretch_max. Raises KernelsError."""
    with _neighbour(trial.neighbour):
        batch = max(BATCH, trial.slots + 1)
        context = Context(
            model,
            ContextSettings(trial.slots + 1, CONTEXT, batch, min(trial.ubatch, batch), trial.threads, exact),
        )
        try:
            return _measure(context, trial, phase, batch, seconds, stretch_max)
        finally:
            context.close()


def _measure(context: Context, trial: Trial, phase: Phase, batch: int, seconds: float, stretch_max: float) -> Figures:
    model = context.model
    diary = Diary()
    limits = Limits(
        trial.slots + 1, batch, trial.prefill_tokens_max, stretch_max=stretch_max, keeps_prefixes=False
    )  # one more, for the prompt that comes in
    loop = StepLoop(
        LlamaRunner(context), Planner(limits), Sampler(model.size, model.ends()), frozenset(), CONTEXT, time.monotonic,
        diary.note,
    )  # fmt: skip
    thread = Thread(target=loop.run, name="engine", daemon=True)
    thread.start()
    try:
        if phase is Phase.READ:
            began_s = time.monotonic()
            loop.submit(_job(model, 0, LONG, 1))
            return Figures(read=LONG / (diary.wait_until_begun({0}) - began_s))
        writers = range(1, trial.slots + 1)
        for handle in writers:
            loop.submit(_job(model, handle, SHORT, CONTEXT - SHORT))
        start_s = diary.wait_until_begun(set(writers))
        end_s = diary.wait_until_written(seconds)
        tokens, gaps = diary.between(start_s, end_s)
        if not gaps:
            raise KernelsError(
                f"{trial.slots} answers were full before they could be measured: the machine is busy, try again"
            )
        written = tokens / (end_s - start_s)
        if phase is Phase.WRITE:
            return Figures(written, gap_s=float(np.percentile(gaps, SLOWEST)))
        newcomer = trial.slots + 1
        asked_s = time.monotonic()
        loop.submit(_job(model, newcomer, LONG, 1))
        first_s = diary.wait_until_begun({newcomer}) - asked_s
        _, beside = diary.between(asked_s, asked_s + first_s)
        return Figures(written, gap_s=float(np.percentile(beside or gaps, SLOWEST)), first_s=first_s)
    finally:
        loop.stop()
        thread.join()


def _job(model: Model, number: int, length: int, max_tokens: int) -> Job:
    """Prompts without a common beginning, that never end by themselves."""
    prompt: Tokens = ((np.arange(length) + 1 + number * LONG) * STRIDE % model.size).astype(np.int32)
    sampling = Sampling(temperature=0.0, ignore_eos=True)
    none: Tokens = prompt[:0]
    deadline_s = time.monotonic() + 2 * PATIENCE_S
    return Job((CONNECTION, number), prompt, (0,), (none,), max_tokens, deadline_s, 1, sampling)


@contextmanager
def _neighbour(wanted: bool) -> Iterator[None]:
    """A process that never rests, on the processors of this one. It ends with this one, however that ends."""
    if not wanted:
        yield
        return
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            while os.getppid() == parent:
                pass
        finally:
            os._exit(0)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
