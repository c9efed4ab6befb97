"""Which sequences run in the next step, and with how many tokens each.

A sequence is a row of known tokens of which the first `computed` are in the cache. Whatever is known and not computed has
to run; when all of it has run, the logits of its last token give one token more. So there is one rule for prompts, for
decoding and for going on with somebody else's answer: a sequence with one token left to run decodes, one with more
prefills. Every step runs all that decode; prompts fill the room that is left, capped while others decode so that their
next token does not wait for somebody's long prompt. Slots and prompts go by priority, then by arrival; the lowest free
slot is taken first and rows are ordered by slot, because the kernels share a pass only between adjacent ascending slots.

Choices of one call share a prompt: the others wait until the first of them has computed it and then take a copy.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """`batch_tokens`: rows of one step. `prefill_tokens_max`: prompt tokens in a step in which others decode."""

    slots: int
    batch_tokens: int
    prefill_tokens_max: int


@dataclass(frozen=True, slots=True)
class Chunk:
    """Run the tokens `start … start + count − 1` of sequence `key` in `slot`. `last`: their logits give its next token."""

    key: int
    slot: int
    start: int
    count: int
    last: bool


@dataclass(frozen=True, slots=True)
class Copy:
    """Before the step: make `target` a copy of the first `tokens` tokens of the sequence in slot `source`."""

    key: int
    source: int
    target: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """One step. `expired`: sequences whose deadline has passed; they are forgotten, `freed` are the slots they had."""

    chunks: tuple[Chunk, ...] = ()
    copies: tuple[Copy, ...] = ()
    expired: tuple[int, ...] = ()
    freed: tuple[int, ...] = ()


class _Sequence:
    __slots__ = ("arrival", "computed", "key", "leader", "length", "priority", "shared", "slot")

    def __init__(self, key: int, length: int, order: tuple[int, int], leader: int | None, shared: int) -> None:
        self.key = key
        self.length = length
        self.priority, self.arrival = order
        self.leader = leader
        self.shared = shared
        self.slot = -1
        self.computed = 0


class Planner:
    """The sequences of one engine. Keys are the owner's and never used twice."""

    def __init__(self, limits: Limits) -> None:
        if limits.batch_tokens < limits.slots:
            raise ValueError(
                f"a step of {limits.batch_tokens} rows cannot hold one row for each of {limits.slots} slots: "
                "raise engine.batch or lower engine.slots"
            )
        self.limits = limits
        self._sequences: dict[int, _Sequence] = {}
        self._slots: list[_Sequence | None] = [None] * limits.slots
        self._free = list(range(limits.slots))  # a heap: the lowest first
        self._waiting: list[tuple[int, int, int]] = []  # a heap of (priority, arrival, key); gone keys stay until met
        self._deadlines: list[tuple[float, int]] = []  # a heap of (deadline, key), likewise
        self._arrivals = 0

    def add(
        self,
        key: int,
        length: int,
        priority: int,
        deadline_s: float,
        leader: int | None = None,
        shared: int = 0,
    ) -> None:
        """A new sequence of `length` known tokens, due before `deadline_s` on the clock that `plan` is asked with.

        `leader`: a sequence whose first `shared` tokens are the same; they are copied once it has computed them.
        """
        assert key not in self._sequences, f"sequence {key} is here already"
        assert length >= 1, "a sequence needs a token to start from"
        assert shared < length, "a copied sequence needs a token of its own to run"
        self._arrivals += 1
        self._sequences[key] = _Sequence(key, length, (priority, self._arrivals), leader, shared)
        heapq.heappush(self._waiting, (priority, self._arrivals, key))
        heapq.heappush(self._deadlines, (deadline_s, key))

    def remove(self, key: int) -> int | None:
        """A sequence is complete, cancelled or failed. Returns the slot it had, free from now on; idempotent."""
        sequence = self._sequences.pop(key, None)
        if sequence is None or sequence.slot < 0:
            return None
        self._slots[sequence.slot] = None
        heapq.heappush(self._free, sequence.slot)
        return sequence.slot

    def ran(self, chunk: Chunk) -> None:
        """The tokens of a planned chunk are in the cache now."""
        sequence = self._sequences[chunk.key]
        sequence.computed = chunk.start + chunk.count

    def uncached(self, key: int) -> None:
        """A copy for this sequence was not possible: it computes everything itself."""
        self._sequences[key].computed = 0

    def extend(self, key: int) -> None:
        """A sequence has one known token more: the one just sampled."""
        self._sequences[key].length += 1

    def idle(self) -> bool:
        return not self._sequences

    def plan(self, now_s: float) -> Plan:
        """The next step as of `now_s`. Chunks are in ascending order of slot. Progress is noted by `ran`."""
        expired, freed = self._expire(now_s)
        chunks: list[Chunk] = []
        prefilling: list[_Sequence] = []
        for sequence in self._slots:
            if sequence is None:
                continue
            if sequence.length - sequence.computed == 1:
                chunks.append(_chunk(sequence, 1))
            else:
                prefilling.append(sequence)
        room = self.limits.batch_tokens - len(chunks)
        if chunks:
            room = min(room, self.limits.prefill_tokens_max)
        copies: list[Copy] = []
        self._prefill(prefilling, room, chunks, copies)
        chunks.sort(key=_slot)
        return Plan(tuple(chunks), tuple(copies), tuple(expired), tuple(freed))

    def _expire(self, now_s: float) -> tuple[list[int], list[int]]:
        expired, freed = [], []
        while self._deadlines and self._deadlines[0][0] <= now_s:
            _, key = heapq.heappop(self._deadlines)
            if key in self._sequences:
                expired.append(key)
                slot = self.remove(key)
                if slot is not None:
                    freed.append(slot)
        if len(self._deadlines) > 2 * len(self._sequences) + self.limits.slots:  # mostly of sequences that are gone
            self._deadlines = [entry for entry in self._deadlines if entry[1] in self._sequences]
            heapq.heapify(self._deadlines)
        return expired, freed

    def _prefill(self, begun: list[_Sequence], room: int, chunks: list[Chunk], copies: list[Copy]) -> None:
        """Fill `room` rows with prompt tokens: of those that have begun and of those that wait, the first in order."""
        begun.sort(key=_order, reverse=True)
        held: list[tuple[int, int, int]] = []  # followers whose leader is not there yet
        while room > 0:
            waiting = self._next_waiting(held) if self._free else None
            if begun and (waiting is None or _order(begun[-1]) < _order(waiting)):
                sequence = begun.pop()
            elif waiting is not None:
                sequence = waiting
                self._seat(sequence, copies)
            else:
                break
            count = min(room, sequence.length - sequence.computed)
            chunks.append(_chunk(sequence, count))
            room -= count
        for entry in held:
            heapq.heappush(self._waiting, entry)

    def _next_waiting(self, held: list[tuple[int, int, int]]) -> _Sequence | None:
        """The first of those that wait and may begin. It stays in the queue until it is seated."""
        while self._waiting:
            sequence = self._sequences.get(self._waiting[0][2])
            if sequence is None:
                heapq.heappop(self._waiting)
                continue
            leader = self._leader(sequence)
            if leader is None or leader.computed >= sequence.shared:
                return sequence
            held.append(heapq.heappop(self._waiting))
        return None

    def _seat(self, sequence: _Sequence, copies: list[Copy]) -> None:
        heapq.heappop(self._waiting)
        sequence.slot = heapq.heappop(self._free)
        self._slots[sequence.slot] = sequence
        leader = self._leader(sequence)
        if leader is not None and leader.slot >= 0 and sequence.shared > 0:
            copies.append(Copy(sequence.key, leader.slot, sequence.slot, sequence.shared))
            sequence.computed = sequence.shared

    def _leader(self, sequence: _Sequence) -> _Sequence | None:
        return None if sequence.leader is None else self._sequences.get(sequence.leader)


def _chunk(sequence: _Sequence, count: int) -> Chunk:
    end = sequence.computed + count
    return Chunk(sequence.key, sequence.slot, sequence.computed, count, end == sequence.length)


def _order(sequence: _Sequence) -> tuple[int, int]:
    return sequence.priority, sequence.arrival


def _slot(chunk: Chunk) -> int:
    return chunk.slot
