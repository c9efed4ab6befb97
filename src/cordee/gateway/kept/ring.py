"""The last outcomes of a gateway, kept small, because every call adds one and hardly anybody reads one.

Thousands of records that stay behind would push what all calls need out of the processor's caches, again and again. So what
repeats from call to call (whose, which model, where, how it ended) is kept once, times and counts are packed into one cache
line a call, and a record is made of them when somebody asks.
"""

from __future__ import annotations

import math
from struct import Struct

from cordee.domain.outcome import End, Outcome, Why

NUMBERS = Struct("=5d3q")  # when it ended, its three times and its money; tokens read, written and not computed again
KINDS_MAX = 1024  # told apart at once; those that are in use stay when the others are forgotten
Kind = tuple[
    End, str, str, Why | None, str, int, int, bool, str, str, str, tuple[str, ...], str, bool, bool
]  # of a call, as far as it is like others


class Ring:
    """The last `calls_max` outcomes, in the order in which they came."""

    __slots__ = ("_calls_max", "_ids", "_kinds", "_known", "_next", "_numbers")

    def __init__(self, calls_max: int) -> None:
        self._calls_max = calls_max
        self._next = 0
        self._ids: list[str | None] = [None] * calls_max
        self._kinds: list[Kind | None] = [None] * calls_max
        self._numbers = bytearray(calls_max * NUMBERS.size)
        self._known: dict[Kind, Kind] = {}

    def add(self, ended: float, outcome: Outcome) -> None:
        """`ended` in Unix seconds."""
        at = self._next
        if at >= self._calls_max:
            if not self._calls_max:
                return
            at = 0
        self._next = at + 1
        first_s = outcome.first_token_s
        kind: Kind = (
            outcome.end, outcome.model, outcome.tenant, outcome.why, outcome.replica, outcome.attempts, outcome.continued,
            outcome.identical, outcome.key_id, outcome.path, outcome.asked, outcome.replicas, outcome.continuation,
            outcome.resumed, outcome.cloud,
        )  # fmt: skip
        self._ids[at] = outcome.call_id
        self._kinds[at] = self._known.get(kind) or self._learned(kind)
        NUMBERS.pack_into(
            self._numbers, at * NUMBERS.size, ended, outcome.queue_s, math.nan if first_s is None else first_s, outcome.total_s,
            outcome.money, outcome.tokens_in, outcome.tokens_out, outcome.cached,
        )  # fmt: skip

    def find(self, call_id: str) -> list[tuple[float, Outcome]]:
        """All of one call, with when each ended: one, or one more for each time its client came back."""
        places = [at for at, id in enumerate(self._ids) if id == call_id]
        newest = [at for at in places if at < self._next]
        return [self._outcome(at) for at in (*places[len(newest) :], *newest)]

    def _learned(self, kind: Kind) -> Kind:
        if len(self._known) >= KINDS_MAX:
            self._known.clear()
        self._known[kind] = kind
        return kind

    def _outcome(self, at: int) -> tuple[float, Outcome]:
        id, kind = self._ids[at], self._kinds[at]
        assert id is not None
        assert kind is not None
        (
            end, model, tenant, why, replica, attempts, continued, identical, key_id, path, asked, replicas, continuation,
            resumed, cloud,
        ) = kind  # fmt: skip
        ended, queue_s, first_s, total_s, money, tokens_in, tokens_out, cached = NUMBERS.unpack_from(
            self._numbers, at * NUMBERS.size
        )
        return ended, Outcome(
            id, end, model, tenant, why, replica, attempts, continued, identical, tokens_in, tokens_out, queue_s,
            None if math.isnan(first_s) else first_s, total_s, key_id, path, asked, replicas, continuation, resumed, cloud,
            money, cached,
        )  # fmt: skip
