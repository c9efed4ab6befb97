"""Decides which settings of an engine to recommend, from what was measured on the machine that is to use them.

One setting after the other, each on top of those that were chosen before: threads, then slots, then rows at once, then prompt tokens
beside others. What is set already stays unless something else is better by more than measurements scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

from cordee.domain.record import record

SCATTER = 1.05  # two runs of one second differ by so much
GAP_S_MAX = 0.2  # between two tokens: five a second is as fast as people read
GAP_GROWTH = 2.0  # where even the quickest is slower than that, others may be so many times as slow
SLOTS, UBATCHES, PREFILLS = (1, 4, 16, 32, 64), (64, 128, 256), (64, 128, 256)


class Phase(StrEnum):
    """What a trial is about: how fast answers are written, how fast a prompt is read, or a prompt that comes in beside answers."""

    WRITE = "write"
    READ = "read"
    JOIN = "join"


@record
class Trial:
    """Settings to try, by the names of the section [engine]. `neighbour`: beside a process that never rests."""

    threads: int
    ubatch: int
    slots: int
    prefill_tokens_max: int
    neighbour: bool = False


@record
class Figures:
    """What a trial gave: tokens written a second by all slots together, tokens read a second by one long prompt alone, the time
    between two tokens (its longest twentieth; while the prompt came in, where one did), and how long a prompt that came in took to its
    first token. 0: not asked."""

    written: float = 0.0
    read: float = 0.0
    gap_s: float = 0.0
    first_s: float = 0.0


Measured = tuple[Trial, Figures]


def thread_trials(now: Trial, processors: int) -> list[Trial]:
    """One, half and all of the processors, and what is set; each in quiet and beside a neighbour."""
    numbers = sorted({1, max(1, processors // 2), max(1, processors - 1), processors, min(now.threads, processors)})
    return [replace(now, threads=n, neighbour=beside) for n in numbers for beside in (False, True)]


def slot_trials(now: Trial, slots_max: int) -> list[Trial]:
    """`slots_max`: what the memory has room for."""
    return [replace(now, slots=n) for n in sorted({*SLOTS, now.slots}) if n <= slots_max]


def ubatch_trials(now: Trial) -> list[Trial]:
    return [replace(now, ubatch=n) for n in sorted({*UBATCHES, now.ubatch})]


def prefill_trials(now: Trial) -> list[Trial]:
    return [replace(now, prefill_tokens_max=n) for n in sorted({*PREFILLS, now.prefill_tokens_max})]


def best_threads(now: Trial, measured: Sequence[Measured]) -> Trial:
    """The best of both worlds: the number whose speeds in quiet and beside a neighbour have the largest product. Threads that spin
    while they wait may be somewhat faster in quiet and many times slower beside somebody."""
    speeds = {(trial.threads, trial.neighbour): figures.written for trial, figures in measured}
    scores = {n: math.sqrt(speeds[n, False] * speeds[n, True]) for n, beside in speeds if not beside}
    return replace(now, threads=_chosen(now.threads, scores))


def best_slots(now: Trial, measured: Sequence[Measured]) -> Trial:
    """The most tokens a second while nobody waits longer than a reader would notice; of equally good numbers the smallest, because
    each slot takes memory."""
    quick = {trial.slots: figures.written for trial, figures in _quick(measured)}
    enough = max(quick.values()) / SCATTER
    return replace(now, slots=min(n for n, written in quick.items() if written >= enough))


def best_ubatch(now: Trial, measured: Sequence[Measured]) -> Trial:
    """That reads a prompt fastest."""
    return replace(now, ubatch=_chosen(now.ubatch, {trial.ubatch: figures.read for trial, figures in measured}))


def best_prefill(now: Trial, measured: Sequence[Measured]) -> Trial:
    """That answers a new call soonest, of those that let the others wait no longer than a reader would notice."""
    quick = {trial.prefill_tokens_max: 1 / figures.first_s for trial, figures in _quick(measured)}
    return replace(now, prefill_tokens_max=_chosen(now.prefill_tokens_max, quick))


def _quick(measured: Sequence[Measured]) -> list[Measured]:
    """Those whose tokens follow each other fast enough; never none."""
    most_s = max(GAP_S_MAX, GAP_GROWTH * min(figures.gap_s for _, figures in measured))
    return [(trial, figures) for trial, figures in measured if figures.gap_s <= most_s]


def _chosen(now: int, scores: dict[int, float]) -> int:
    """The highest score; what is set already where nothing is clearly better."""
    best = max(scores, key=lambda n: scores[n])
    return now if now in scores and scores[now] * SCATTER >= scores[best] else best
