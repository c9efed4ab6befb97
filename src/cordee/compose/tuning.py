"""Engine settings for this machine: what is tried, in which order, in a process with the processors that a worker would have."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from cordee.adapters.libraries import library_directory
from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import resolve
from cordee.compose.kernel_child import Progress, Task, run
from cordee.compose.layout import seats
from cordee.compose.sizing import context_settings, trained_context, whole_header
from cordee.compose.tasks import WRITES, tasks_in
from cordee.config.tree import Config
from cordee.kernels.gguf import Header
from cordee.kernels.memory import bytes_left, bytes_needed
from cordee.policy import tuning
from cordee.policy.tuning import Figures, Measured, Phase, Trial
from cordee.supervisor.placement import place

SLOTS_MAX = 256  # as engine.slots allows
Notice = Callable[[str, Sequence[Measured]], None]  # what was tried, and what it gave


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to be tuned, and what is set for it now. `cores`: of its first worker under `cordee up`."""

    path: Path
    library: Path
    cores: tuple[int, ...]
    slots_max: int
    now: Trial
    exact: bool
    stretch_max: float


def subject(config: Config, name: str | None, cache: Path) -> Subject:
    """`name`: of the catalogue, a path, or hf:; None for the configured model. Raises ModelError, KernelsError."""
    found = resolve(name or config.model, cache)
    if found.path is None:
        raise ModelError(f"{found.name} computes nothing that could be tuned; name a GGUF model")
    header = whole_header(found.path)
    if tasks_in(header) != WRITES:
        raise ModelError(f"{found.path} writes no text: only models that do are tuned")
    cores = cores_of_a_worker(config)
    engine = config.engine
    threads = min(engine.threads or len(cores), len(cores))
    now = Trial(threads, engine.ubatch, engine.slots, engine.prefill_tokens_max)
    room = most_slots(config, header)
    library = library_directory(engine.library, cache)
    return Subject(
        found.path, library, cores, room, replace(now, slots=min(now.slots, room)), engine.exact, engine.stretch_max
    )


def cores_of_a_worker(config: Config) -> tuple[int, ...]:
    """Those of the first one, where `cordee up` started it here."""
    pinned = [seat for seat in seats(config) if not seat.is_guest]
    places = place([seat.role == "worker" for seat in pinned], sorted(os.sched_getaffinity(0)))
    workers = [processor for seat, processor in zip(pinned, places, strict=True) if seat.role == "worker"]
    return tuple(sorted(workers[0].cores)) if workers else tuple(sorted(os.sched_getaffinity(0)))


def most_slots(config: Config, header: Header) -> int:
    """That the memory has room for with engine.context as it is set, in all workers of this host at once; at least 1."""
    left = bytes_left()
    if left is None:
        return SLOTS_MAX
    settings = context_settings(config, trained_context(header))
    workers = max(1, config.servers * config.worker.per_server)
    for slots in sorted(tuning.SLOTS, reverse=True):
        if bytes_needed(header, replace(settings, slots=slots)).total * workers <= left:
            return slots
    return 1


def tune(of: Subject, seconds: float, progress: Progress, notice: Notice) -> Trial:
    """The settings to recommend. `seconds` of writing for each trial. Raises KernelsError."""

    def tried(what: str, phase: Phase, trials: Sequence[Trial]) -> list[Measured]:
        numbers = tuple(tuple(int(part) for part in astuple(one)) for one in trials)
        task = Task(
            "trials", str(of.library), str(of.path), trials=numbers, seconds=seconds, cores=of.cores, exact=of.exact,
            phase=phase, stretch_max=of.stretch_max,
        )  # fmt: skip
        found = [(trial, Figures(*row)) for trial, row in zip(trials, run(task, progress), strict=True)]
        notice(what, found)
        return found

    now = of.now
    now = tuning.best_threads(now, tried("threads", Phase.WRITE, tuning.thread_trials(now, len(of.cores))))
    now = tuning.best_slots(now, tried("slots", Phase.WRITE, tuning.slot_trials(now, of.slots_max)))
    now = tuning.best_ubatch(now, tried("ubatch", Phase.READ, tuning.ubatch_trials(now)))
    return tuning.best_prefill(now, tried("prefill_tokens_max", Phase.JOIN, tuning.prefill_trials(now)))
