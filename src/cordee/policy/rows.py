"""How the rows of a step that are left are shared among prompts.

Strictly by class. Within a class the first in turn gets what it can use, but for one thing: where shorter prompts wait behind it,
half of the rows are theirs, the shortest first, so that a short question does not wait for somebody's book. The first always moves
on, and so everybody ends.

The rows are bounded by the time they take as measured, because a row far into a long prompt costs many times one at the beginning:
while others decode, so that their next token comes in time (policy.allowance says how long prompts may take); else, so that who
comes meanwhile does not wait for somebody's book either.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from math import inf

from cordee.policy.plan import Limits
from cordee.policy.sequence import Sequence
from cordee.policy.stepcost import StepCost

SHARES = 2  # one for the first in turn, one for those that need less
SCORED_ROWS_MAX = 64  # of one step: logits are a whole vocabulary each


class _Room:
    """What is left of a step: rows, of which `floor` are run whatever they take, seconds, and rows whose logits are wanted."""

    __slots__ = ("_cost", "floor", "rows", "scored", "seconds")

    def __init__(self, rows: int, seconds: float, cost: StepCost) -> None:
        self.rows = rows
        self.seconds = seconds
        self.floor = 1  # or nobody would move on where one takes longer than there is time
        self.scored = SCORED_ROWS_MAX
        self._cost = cost

    def rows_for(self, start: int, wish: int, scored_from: int | None) -> int:
        """How many rows from `start` on fit."""
        most = min(wish, self.rows)
        if scored_from is not None:
            most = min(most, max(0, scored_from - start) + self.scored)
        if self.seconds < inf:
            most = min(most, max(self.floor, self._cost.rows_in(self.seconds, start, most)))
        return most

    def take(self, start: int, count: int, scored_from: int | None) -> None:
        self.rows -= count
        self.floor = max(0, self.floor - count)
        if self.seconds < inf:
            self.seconds -= self._cost.prefill_s(start, start + count)
        if scored_from is not None:
            self.scored -= start + count - max(start, min(scored_from, start + count))


def share_rows(
    prompts: Iterable[Sequence], decoding: int, seconds: float, limits: Limits, cost: StepCost
) -> list[tuple[Sequence, int]]:
    """Rows for each of `prompts` that gets some, beside so many that decode: as many as take `seconds`, and one at least."""
    prompts = sorted(prompts, key=_order)
    rows = limits.batch_tokens - decoding
    if decoding:
        rows = min(rows, limits.prefill_tokens_max)
    room = _Room(rows, seconds, cost)
    given: dict[int, tuple[Sequence, int]] = {}
    for _, group in groupby(prompts, key=_class):
        ordered = list(group)
        first = ordered[0]
        shorter = sorted((one for one in ordered[1:] if one.left < first.left), key=_left)
        if shorter:
            _give(given, room, first, -(-room.rows_for(first.computed, first.left, first.scored_from) // SHARES))
            for one in shorter:
                _give(given, room, one, one.left)
        for one in ordered:
            _give(given, room, one, one.left)
        if room.rows <= 0:
            break
    return [pair for pair in given.values() if pair[1]]


def _give(given: dict[int, tuple[Sequence, int]], room: _Room, one: Sequence, wish: int) -> None:
    """As many more rows as fit, up to `wish` in all."""
    _, had = given.get(one.key, (one, 0))
    start = one.computed + had
    count = room.rows_for(start, min(wish, one.left) - had, one.scored_from)
    if count > 0:
        room.take(start, count, one.scored_from)
        given[one.key] = (one, had + count)


def _order(one: Sequence) -> tuple[int, int]:
    return one.place, one.turn


def _class(one: Sequence) -> int:
    return one.place


def _left(one: Sequence) -> tuple[int, int]:
    return one.left, one.turn
