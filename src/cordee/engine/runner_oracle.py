"""The engine whose token i is a function of (seed, i): the same manners as a model's, thousands of sequences on one core.

Every sequence has its own exact schedule (`first_token_s`, then a token every `token_s`); tokens due in the same tick go
out in one emission, computed as arrays. No thread: a timer on the event loop, and none when nothing is due.
"""

from __future__ import annotations

import heapq
import math
import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cordee.domain.chunk import Finish
from cordee.domain.replica import Capacity, EngineFigures, ModelCard
from cordee.engine.job import ROWS, Broken, Deliver, Emission, Job, JobName, RowEntry, Rows, emission
from cordee.engine.oracle_table import Slots, Table, tokens_at
from cordee.link.frames import LogprobRow
from cordee.policy import noise, oracle
from cordee.ports import Clock, Timer

TICK_S = 0.002  # a fraction of what a reader notices; at 50 tokens a second it makes ten emissions of a step
SLACK_S = 1e-6  # a division must not put a moment that has come into the next tick
TIMER_S = 0.001  # event loops count in milliseconds: a shorter wait would be none at all
NEVER = -1
LIE = 0x5EED  # turns a seed into that of another answer
NEXT_BEST = -10.0  # log-probability, per rank, of the alternatives: the oracle is sure of what it says


@dataclass(frozen=True, slots=True)
class Pace:
    """Delays in seconds: from a sequence's start to its first token, and between tokens."""

    first_token_s: float
    token_s: float


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong in a rehearsal, by the number of the answer from which on it does; NEVER for a sound engine.

    `wrong_from`: it says other tokens than it should, as fast as ever. `stuck_from`: it says nothing any more, while the process
    goes on beating. `poison`: the bytes of the tokens that end the process when a prompt holds them, while it is being
    computed.
    """

    wrong_from: int = -1
    stuck_from: int = -1
    poison: bytes = b""


@dataclass(slots=True)
class Live:
    """A job that is not complete: `left` choices are open, of which some have slots."""

    left: int
    slots: set[int] = field(default_factory=set)


SOUND = Faults()
POISONED = 70  # the exit code of a process that a prompt has ended


class OracleEngine:
    """Slots like a model's: what does not fit waits by priority, then by arrival."""

    def __init__(self, card: ModelCard, slots: int, pace: Pace, clock: Clock, faults: Faults = SOUND) -> None:
        self.card = card
        self._clock = clock
        self.capacity = Capacity(slots, slots * card.context)
        self._pace = pace
        self._faults = faults
        self._answers = 0
        self._lies = False
        self._stuck_at: int | None = None
        self._table = Table(slots)
        self._free = list(range(slots))
        self._waiting: list[tuple[int, int, Job, int]] = []  # (priority, arrival, job, position in job.choices)
        self._patience: list[tuple[float, JobName]] = []  # deadlines of jobs that had to wait
        self._ticks: dict[int, list[tuple[Slots, NDArray[np.int64]]]] = {}
        self._order: list[int] = []  # a heap of the keys of _ticks
        self._jobs: dict[JobName, Live] = {}
        self._reports: dict[int, int] = {}  # slots that want log-probabilities, and how many alternatives
        self._serials = 0
        self._arrivals = 0
        self._timer: Timer | None = None
        self._timer_s = 0.0
        self._deliver: Deliver | None = None

    def start(self, deliver: Deliver, broken: Broken) -> None:
        del broken  # nothing here can break
        self._deliver = deliver

    @property
    def steps(self) -> int:
        """Ticks, which come whether or not a token is due in them."""
        return self._stuck_at if self._stuck_at is not None else int(self._clock.now() / TICK_S)

    def figures(self) -> EngineFigures:
        """Nothing is computed of a prompt, and nothing makes room."""
        return EngineFigures()

    def submit(self, job: Job) -> None:
        self._count()
        if self._faults.poison and self._faults.poison in job.prompt.tobytes():
            # before the first token for certain: timers of one millisecond run in any order
            self._clock.call_later(self._pace.first_token_s / 2, _die)
        for position in range(len(job.choices)):
            self._arrivals += 1
            heapq.heappush(self._waiting, (job.priority, self._arrivals, job, position))
        self._jobs[job.name] = Live(len(job.choices))
        self._seat()
        if self._waiting:
            heapq.heappush(self._patience, (job.deadline_s, job.name))
        self._wake()

    def cancel(self, name: JobName) -> None:
        job = self._jobs.pop(name, None)
        for slot in job.slots if job is not None else ():
            self._release(slot)
        self._seat()
        self._wake()
        assert self._deliver is not None
        self._deliver(Emission(np.empty(0, np.uint32), np.empty(0, ROWS), cancelled=(name,)))

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _count(self) -> None:
        faults = self._faults
        if faults.stuck_from != NEVER and self._answers >= faults.stuck_from and self._stuck_at is None:
            self._stuck_at = self.steps
            self.stop()
        self._lies = faults.wrong_from != NEVER and self._answers >= faults.wrong_from
        self._answers += 1

    def _seat(self) -> None:
        """Give free slots to those that wait."""
        started: list[int] = []
        while self._free and self._waiting:
            _, _, job, position = heapq.heappop(self._waiting)
            if job.name in self._jobs:
                started.append(self._begin(job, position))
        if started:
            self._schedule(np.array(started, np.int64))

    def _begin(self, job: Job, position: int) -> int:
        slot = heapq.heappop(self._free)
        table, sampling = self._table, job.sampling
        seed = sampling.seed + job.choices[position]
        room = min(job.max_tokens, self.card.context - len(job.prompt))
        length = oracle.answer_length(seed, room, sampling.min_tokens, ignore_eos=sampling.ignore_eos)
        ends_itself = oracle.ends_itself(seed, room, sampling.min_tokens, ignore_eos=sampling.ignore_eos)
        self._serials += 1
        table.serial[slot] = self._serials
        table.connection[slot], table.handle[slot] = job.name
        table.choice[slot] = job.choices[position]
        table.seed[slot] = np.uint64((seed ^ LIE if self._lies else seed) & noise.MASK)
        table.index[slot] = len(job.outputs[position])
        table.stop[slot] = length
        table.finish[slot] = Finish.STOP if ends_itself else Finish.LENGTH
        table.due_s[slot] = self._clock.now() + self._pace.first_token_s
        table.deadline_s[slot] = job.deadline_s
        if sampling.logprobs is not None:
            self._reports[slot] = sampling.logprobs
        self._jobs[job.name].slots.add(slot)
        return slot

    def _release(self, slot: int) -> None:
        self._table.serial[slot] = 0
        self._reports.pop(slot, None)
        heapq.heappush(self._free, slot)

    def _schedule(self, slots: Slots) -> None:
        """Put slots into the tick in which they are due, by token or by deadline."""
        table = self._table
        at = np.minimum(table.due_s[slots], table.deadline_s[slots])
        ticks = np.ceil(at / TICK_S).astype(np.int64)
        for tick in np.unique(ticks).tolist():
            members = slots[ticks == tick]
            if tick not in self._ticks:
                self._ticks[tick] = []
                heapq.heappush(self._order, tick)
            self._ticks[tick].append((members, table.serial[members]))

    def _wake(self) -> None:
        """Have the timer ring when the next thing is due."""
        if self._stuck_at is not None or (not self._order and not self._patience):
            return
        at = self._order[0] * TICK_S if self._order else self._patience[0][0]
        if self._patience:
            at = min(at, self._patience[0][0])
        if self._timer is not None:
            if self._timer_s <= at:
                return
            self._timer.cancel()
        wait_s = max(0.0, math.ceil((at - self._clock.now()) / TIMER_S) * TIMER_S)
        self._timer, self._timer_s = self._clock.call_later(wait_s, self._ring), at

    def _ring(self) -> None:
        self._timer = None
        now = self._clock.now()
        impatient = self._impatient(now)
        tick = int((now + SLACK_S) / TICK_S)
        members: list[Slots] = []
        while self._order and self._order[0] <= tick:
            for slots, serials in self._ticks.pop(heapq.heappop(self._order)):
                members.append(slots[self._table.serial[slots] == serials])
        due = np.concatenate(members) if members else np.empty(0, np.int64)
        self._emit(due, now, impatient)
        self._seat()
        self._wake()

    def _impatient(self, now: float) -> list[RowEntry]:
        """Rows for choices whose deadline passed while they waited."""
        late: set[JobName] = set()
        while self._patience and self._patience[0][0] <= now:
            late.add(heapq.heappop(self._patience)[1])
        if not late:
            return []
        kept, rows = [], []
        for entry in self._waiting:
            _, _, job, position = entry
            if job.name not in late or job.name not in self._jobs:
                kept.append(entry)
                continue
            count = len(job.outputs[position])
            rows.append((*job.name, job.choices[position], int(Finish.EXPIRED), count, 0))
            self._leave(job.name)
        heapq.heapify(kept)
        self._waiting = kept
        return rows

    def _emit(self, slots: Slots, now: float, impatient: list[RowEntry]) -> None:
        table = self._table
        expired = slots[table.deadline_s[slots] <= now]
        alive = slots[table.deadline_s[slots] > now]
        speaking = alive[table.index[alive] < table.stop[alive]]
        tokens = table.rows(speaking)
        tokens["token"] = tokens_at(table.seed[speaking], table.index[speaking])
        logprobs = self._logprobs(speaking, tokens) if self._reports else ()
        table.index[speaking] += 1
        ended = alive[table.index[alive] >= table.stop[alive]]
        ends, lates = table.rows(ended), table.rows(expired)
        ends["finish"], lates["finish"] = table.finish[ended], Finish.EXPIRED
        rest = emission(impatient)
        rows = np.concatenate([tokens, ends, lates, rest.rows])
        connections = np.concatenate([*(table.connection[s] for s in (speaking, ended, expired)), rest.connections])
        going = alive[table.index[alive] < table.stop[alive]]
        table.due_s[going] = np.maximum(table.due_s[going] + self._pace.token_s, now)
        self._schedule(going)
        for slot in np.concatenate([ended, expired]).tolist():
            self._settle(slot)
        if len(rows):
            assert self._deliver is not None
            self._deliver(Emission(connections, rows, logprobs))

    def _settle(self, slot: int) -> None:
        """A choice is complete."""
        name = int(self._table.connection[slot]), int(self._table.handle[slot])
        self._jobs[name].slots.discard(slot)
        self._leave(name)
        self._release(slot)

    def _leave(self, name: JobName) -> None:
        job = self._jobs[name]
        job.left -= 1
        if not job.left:
            del self._jobs[name]

    def _logprobs(self, slots: Slots, rows: Rows) -> list[tuple[int, LogprobRow]]:
        reports: list[tuple[int, LogprobRow]] = []
        for slot, row in zip(slots.tolist(), rows.tolist(), strict=True):
            if slot in self._reports:
                handle, choice, _, index, token = row
                others = [((token + k) % oracle.VOCABULARY, NEXT_BEST * k) for k in range(self._reports[slot])]
                reports.append((int(self._table.connection[slot]), (handle, choice, index, 0.0, others)))
        return reports


def _die() -> None:
    """As a crash in a kernel does: nothing is cleaned up, nobody is told."""
    os._exit(POISONED)
