"""Decides who may occupy capacity in a pool, and when: calls wait in one bounded queue per pool, by priority, then by the
time they must have started, then by arrival; the replica is chosen when a seat is free, on fresh load.

A refusal is cheap and early: a full queue, or a wait that cannot end in time at the measured drain rate, is refused at
once with the time after which asking again makes sense.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cordee.domain.call import Priority
from cordee.domain.outcome import Refusal, Why
from cordee.domain.record import record
from cordee.policy.route import Replica, Size, Want, pick

if TYPE_CHECKING:
    from random import Random

DRAIN_WEIGHT = 0.1  # of one departure in the running mean gap between departures
RETRY_AFTER_S_MAX = 60.0
FORGET_MIN = 256  # entries of calls that have gone, not worth a sweep
JITTER = 0.25  # ± share of Retry-After, so that those refused together do not come back together


@dataclass(frozen=True, slots=True)
class SeatRules:
    """`waiting_max` calls wait at most `wait_s_max` seconds; `gateways` share the replicas."""

    wait_s_max: float = 30.0
    waiting_max: int = 4096
    gateways: int = 1


@dataclass(eq=False, slots=True)
class Ticket:
    """A call that wants a seat. Times are on the clock of `now`.

    `accepted`: the call already had a seat (it goes on after a fault): it goes first and is never refused for lack of room.
    """

    call_id: str
    priority: Priority
    want: Want
    start_by_s: float
    tenant: str = ""
    accepted: bool = False

    @property
    def size(self) -> Size:
        return self.want.size


@record
class Seated:
    """The seat is taken on `replica` from now on; whoever holds it calls `replica.left(size)` once."""

    replica: Replica


@record
class Queued:
    """`position` counts those in front."""

    position: int


@record
class Granted:
    """A ticket that waited has its seat, or its refusal."""

    ticket: Ticket
    answer: Seated | Refusal


class Seats:
    """The seats of one pool."""

    __slots__ = ("_arrivals", "_gap_s", "_left_s", "_queue", "_waiting", "model", "replicas", "rules")

    def __init__(self, model: str, rules: SeatRules) -> None:
        self.model = model
        self.rules = rules
        self.replicas: list[Replica] = []
        self._queue: list[tuple[int, float, int, Ticket]] = []
        self._waiting: set[Ticket] = set()
        self._arrivals = 0
        self._gap_s: float | None = None
        self._left_s: float | None = None

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def ask(self, now: float, rng: Random, ticket: Ticket) -> Seated | Queued | Refusal:
        if not self._waiting or ticket.accepted:
            replica = self._pick(now, rng, ticket)
            if replica is not None:
                return Seated(replica)
        if not ticket.accepted:
            if len(self._waiting) >= self.rules.waiting_max:
                return self._refusal(rng, Why.QUEUE_FULL, f"{len(self._waiting)} calls are already waiting")
            wait_s = self.expected_wait_s()
            if now + wait_s > ticket.start_by_s:
                return self._refusal(rng, Why.QUEUE_FULL, f"the expected wait of {wait_s:.0f} s is too long")
        position = len(self._waiting)
        self._arrivals += 1
        heapq.heappush(self._queue, (rank(ticket), ticket.start_by_s, self._arrivals, ticket))
        self._waiting.add(ticket)
        return Queued(position)

    def withdraw(self, ticket: Ticket) -> None:
        """The call has gone; its ticket is skipped when its turn comes."""
        self._waiting.discard(ticket)
        self._forget()

    def departed(self, now: float) -> None:
        """A seat was given back."""
        if self._left_s is not None and self._waiting:
            gap = now - self._left_s
            self._gap_s = gap if self._gap_s is None else self._gap_s + DRAIN_WEIGHT * (gap - self._gap_s)
        self._left_s = now

    def overdue(self, now: float, rng: Random) -> list[Granted]:
        """Refusals for those whose time to start is over."""
        late = [ticket for ticket in self._waiting if now >= ticket.start_by_s]
        refused = []
        for ticket in late:
            self._waiting.discard(ticket)
            why = Why.DEADLINE if ticket.accepted else Why.QUEUE_TIMEOUT
            refused.append(Granted(ticket, self._refusal(rng, why, "no seat became free in time")))
        self._forget()
        return refused

    def due(self, now: float, rng: Random) -> list[Granted]:
        """Seats for those who can have one now. A head that fits nowhere waits, and those behind it with it: small calls do
        not starve large ones. An accepted call does not wait for room but for a replica that may continue it: nobody else
        has to wait for that too."""
        granted: list[Granted] = []
        stuck: list[tuple[int, float, int, Ticket]] = []
        while self._queue:
            ticket = self._queue[0][3]
            if ticket in self._waiting:
                replica = self._pick(now, rng, ticket)
                if replica is not None:
                    self._waiting.discard(ticket)
                    granted.append(Granted(ticket, Seated(replica)))
                elif ticket.accepted:
                    stuck.append(self._queue[0])
                else:
                    break
            heapq.heappop(self._queue)
        for entry in stuck:
            heapq.heappush(self._queue, entry)
        return granted

    def expected_wait_s(self) -> float:
        """How long a call that joins now would wait, from the measured drain rate; 0 while none was measured."""
        return (self._gap_s or 0.0) * (len(self._waiting) + 1) if self._waiting else 0.0

    def _forget(self) -> None:
        """Drop those who left the queue before their turn, once they are the most of it: it stays as short as its waiters."""
        if len(self._queue) > FORGET_MIN + 2 * len(self._waiting):
            self._queue = [entry for entry in self._queue if entry[3] in self._waiting]
            heapq.heapify(self._queue)

    def _pick(self, now: float, rng: Random, ticket: Ticket) -> Replica | None:
        alone, want = self.rules.gateways <= 1, ticket.want
        found = pick(now, rng, self.replicas, want, alone=alone)
        if found is None and want.avoid:  # the one that just failed is better than none, if it is ready again
            found = pick(now, rng, self.replicas, replace(want, avoid=""), alone=alone)
        if found is None and self._mostly_open():
            found = self._regardless(want)
        if found is not None:  # at once, before the next in line is decided on
            found.began(want.size)
            if not found.breaker.is_closed:
                found.breaker.began()
        return found

    def _mostly_open(self) -> bool:
        """More than half of the ready replicas are shut out: more likely we are wrong than all of them are."""
        ready = [r for r in self.replicas if r.ready]
        return bool(ready) and 2 * sum(not r.breaker.is_closed for r in ready) > len(ready)

    def _regardless(self, want: Want) -> Replica | None:
        able = [
            r for r in self.replicas
            if r.ready and r.id != want.avoid and (want.anyway or r.used + want.size.sequences <= r.capacity.sequences)
            and (not want.fingerprint or r.fingerprint == want.fingerprint)
        ]  # fmt: skip
        return min(able, key=lambda r: r.score, default=None)

    def _refusal(self, rng: Random, why: Why, what: str) -> Refusal:
        after_s = min(RETRY_AFTER_S_MAX, max(1.0, self.expected_wait_s())) * (1 + JITTER * (2 * rng.random() - 1))
        return Refusal(why, f"model {self.model!r} is at capacity: {what}", max(1.0, after_s))


def rank(ticket: Ticket) -> int:
    return -1 if ticket.accepted else int(ticket.priority)
