"""Which sequences run in the next step, and with how many tokens each.

A sequence is a row of known tokens of which the first `computed` are in the cache. Whatever is known and not computed has
to run; when all of it has run, the logits of its last token give one token more. So there is one rule for prompts, for
decoding and for going on with somebody else's answer: a sequence with one token left to run decodes, one with more
prefills. policy.steps says what of those who have a slot is run in a step.

Who gets a slot is decided as at the gateway: strictly by class, with ageing, and fairly between tenants (policy.line). Where all
slots run, a call of a higher class takes the slot of a lower one, which goes on later (policy.parking). A new sequence takes over
what some slot holds of its beginning, and waits for that while somebody who goes before it computes it (policy.prefix): choices of
one call, calls with one system prompt, and the turns of a conversation are the same case.
"""

from __future__ import annotations

import heapq
from typing import assert_never

from cordee.domain.call import Priority
from cordee.policy import parking
from cordee.policy.line import Line, Ticket
from cordee.policy.parking import Way
from cordee.policy.plan import Chunk, Copy, Entry, Limits, Move, Operation, Plan, Restore, Save, Trim
from cordee.policy.prefix import BLOCK, Match
from cordee.policy.route import Size, Want
from cordee.policy.sequence import Making, Sequence
from cordee.policy.slots import Slots
from cordee.policy.stepcost import StepCost
from cordee.policy.steps import Steps

__all__ = [
    "Chunk", "Copy", "Entry", "Limits", "Move", "Operation", "Plan", "Planner", "Restore", "Save", "StepCost", "Trim", "Way",
]  # fmt: skip

OUTPUT_WEIGHT = 2.0  # the service of a token written, in those of one read, as at the gateway
TENANTS_MAX = 4096  # idle ones whose service is remembered


class Planner:
    """The sequences of one engine. As many slots as the first limits say are there for ever; later limits may use fewer."""

    def __init__(self, limits: Limits) -> None:
        self._reserved = limits.slots
        self.cost = StepCost()
        self._steps = Steps(self.cost)
        self._sequences: dict[int, Sequence] = {}
        self._slots = Slots(limits, self.cost, self._sequences.get)
        self._line = Line(TENANTS_MAX)
        self._tickets: dict[Ticket, Sequence] = {}  # of those that wait for their turn
        self._called: list[
            Sequence
        ] = []  # whose turn has come and who have no slot: they follow somebody, or are parked
        self._deadlines: list[tuple[float, int]] = []  # a heap of (deadline, key); gone keys stay until met
        self._turns = 0
        self._now_s = 0.0
        self.adjust(limits)

    # -- what the owner says

    def check(self, limits: Limits) -> None:
        """Raises ValueError for limits that contradict each other or the cache."""
        if limits.batch_tokens < limits.slots:
            raise ValueError(
                f"a step of {limits.batch_tokens} rows cannot hold one row for each of {limits.slots} slots: "
                "raise engine.batch or lower engine.slots"
            )
        if not 1 <= limits.slots <= self._reserved:
            raise ValueError(
                f"{limits.slots} slots: the cache was made for 1 to {self._reserved}; restart the worker with engine.slots = "
                f"{limits.slots}"
            )

    def adjust(self, limits: Limits) -> None:
        """By these limits from the next step on; who runs, runs on. Raises as `check`."""
        self.check(limits)
        self.limits = self._slots.limits = limits

    def add(self, entry: Entry, now_s: float) -> None:
        """A new sequence, due before `entry.deadline_s` on the clock of `now_s`."""
        assert entry.key not in self._sequences, f"sequence {entry.key} is here already"
        assert entry.length >= 1, "a sequence needs a token to start from"
        priority = Priority(min(max(entry.priority, 0), len(Priority) - 1))
        ticket = Ticket(str(entry.key), priority, Want(Size(1, max(1, entry.cost))), entry.deadline_s, entry.tenant)
        self._sequences[entry.key] = self._tickets[ticket] = Sequence(entry, ticket)
        self._line.push(now_s, ticket)
        heapq.heappush(self._deadlines, (entry.deadline_s, entry.key))

    def remove(self, key: int, *, keeps: bool = True) -> int | None:
        """A sequence is complete, cancelled or failed; `keeps`: what was computed of it is sound. Returns the slot that is to be
        emptied, None where nothing has to be done. Idempotent."""
        sequence = self._sequences.pop(key, None)
        if sequence is None:
            return None
        if not sequence.turn:
            self._line.discard(sequence.ticket)
            del self._tickets[sequence.ticket]
        else:
            read = sequence.entry.length - sequence.reused
            written = sequence.length - sequence.entry.length
            self._line.correct(sequence.ticket, read + OUTPUT_WEIGHT * written)
            if sequence.slot < 0:
                self._called.remove(sequence)
        return self._slots.leave(self._now_s, sequence, keeps=keeps)

    def ran(self, chunk: Chunk) -> None:
        """The tokens of a planned chunk are in the cache now."""
        self._slots.computed(self._sequences[chunk.key], chunk.start + chunk.count)

    def extend(self, key: int) -> None:
        """A sequence has one known token more: the one just sampled."""
        self._slots.grew(self._sequences[key])

    def failed(self, operation: Operation) -> None:
        """An operation of the last plan could not be done; the slot that it was to leave something in is empty."""
        match operation:
            case Save():
                sequence = self._sequences.get(operation.key)
                if sequence is not None:
                    self._slots.unsaved(sequence)
            case Copy() | Move():
                self._slots.emptied(operation.target)
            case Trim() | Restore():
                self._slots.emptied(operation.slot)
            case _:
                assert_never(operation)

    # -- what the owner asks

    @property
    def running(self) -> int:
        return self._slots.runs

    @property
    def waiting(self) -> int:
        """Those that have no slot, parked ones included."""
        return len(self._sequences) - self._slots.runs

    @property
    def parked(self) -> int:
        return sum(1 for one in self._called if one.parkings and one.follows is None)

    def idle(self) -> bool:
        return not self._sequences

    def plan(self, now_s: float) -> Plan:
        """The next step as of `now_s`. Progress is noted by `ran`."""
        self._now_s = now_s
        making = Making(now_s)
        expired = self._expire(making)
        if self._called or self._line.waiting:
            self._admit(making)
        chunks, apart = self._steps.compose(self._slots.running, self.limits)
        return Plan(
            tuple(chunks),
            tuple(making.operations),
            tuple(expired),
            tuple(making.reused),
            tuple(making.parked.items()),
            apart,
        )

    # -- inside

    def _expire(self, making: Making) -> list[int]:
        expired = []
        while self._deadlines and self._deadlines[0][0] <= making.now_s:
            _, key = heapq.heappop(self._deadlines)
            if key in self._sequences:
                expired.append(key)
                slot = self.remove(key)
                if slot is not None:
                    making.operations.append(Trim(slot, 0))
        if len(self._deadlines) > 2 * len(self._sequences) + self._reserved:  # mostly of sequences that are gone
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._sequences]
            heapq.heapify(self._deadlines)
        return expired

    def _admit(self, making: Making) -> None:
        """Give slots to those whose turn it is, while there are any or somebody has to make room."""
        for _ in range(len(self._sequences)):
            sequence = self._next(making.now_s)
            if sequence is None:
                return
            victim = None
            if self._slots.runs >= self.limits.slots:
                victim = self._victim(making, sequence)
                if victim is None:
                    return
            longest, ready = self._slots.matches(sequence, self._like(sequence))
            if self._follows(sequence, longest, ready):
                continue
            if victim is not None:
                self._slots.park(making, victim)
                self._called.append(victim)
            if not self._slots.seat(making, sequence, ready):
                return
            self._seated(making, sequence)

    def _next(self, now_s: float) -> Sequence | None:
        """Whose turn it is. Those whose turn came before go before others of their class."""
        ageing_s = self.limits.ageing_s
        called = min(
            (one for one in self._called if not self._is_following(one)),
            key=lambda one: (one.place_at(now_s, ageing_s), one.turn),
            default=None,
        )
        ticket = self._line.head(now_s, ageing_s)
        if ticket is None or (called is not None and called.place_at(now_s, ageing_s) <= ticket.place):
            return called
        return self._tickets[ticket]

    def _is_following(self, one: Sequence) -> bool:
        """Whether whom it follows is still on the way."""
        if one.follows is None:
            return False
        leader = self._sequences.get(one.follows)
        if leader is not None and leader.slot >= 0 and leader.computed < one.follows_tokens:
            return True
        one.follows = None
        return False

    def _like(self, sequence: Sequence) -> Sequence | None:
        return self._sequences.get(sequence.entry.like) if sequence.entry.like is not None else None

    def _victim(self, making: Making, sequence: Sequence) -> Sequence | None:
        """Who makes room for it. Its own class counts, not what age has made of it: nobody makes room for an equal."""
        running = (one for one in self._slots.running if one is not None and one.slot not in making.touched)
        return parking.victim(running, sequence.entry.priority, self.limits.parkings_max)

    def _follows(self, sequence: Sequence, longest: Match | None, ready: Match | None) -> bool:
        """Whether it waits for somebody who goes before it to compute more of its beginning; it is called then."""
        if longest is None or longest.held.owner is None or sequence.saved:
            return False
        leader = self._sequences.get(longest.held.owner)
        if leader is None or leader.slot < 0 or leader.place > sequence.place or leader is sequence:
            return False
        gain = longest.tokens - (ready.ready if ready is not None else 0)
        if leader.computed >= longest.tokens or gain < min(BLOCK, sequence.reusable) / 2:
            return False
        self._call(sequence)
        sequence.follows, sequence.follows_tokens = leader.key, longest.tokens
        if sequence not in self._called:
            self._called.append(sequence)
        return True

    def _call(self, sequence: Sequence) -> None:
        """It has its turn."""
        if sequence.turn:
            return
        sequence.place = min(sequence.place, max(0, sequence.ticket.place))
        self._line.take(sequence.ticket)
        del self._tickets[sequence.ticket]
        self._turns += 1
        sequence.turn = self._turns
        sequence.since_s = self._now_s

    def _seated(self, making: Making, sequence: Sequence) -> None:
        if not sequence.turn:
            self._call(sequence)
        else:
            self._called.remove(sequence)
            sequence.place = sequence.place_at(making.now_s, self.limits.ageing_s)
        if sequence.computed and not sequence.parkings:
            sequence.reused = sequence.computed
            making.reused.append((sequence.key, sequence.computed))
