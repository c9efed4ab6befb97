"""Decides who may occupy capacity in a pool, and when: calls wait in one bounded queue per pool (policy.line says in which
order); the replica is chosen when a seat is free, on fresh load.

A refusal is cheap and early. The queue is bounded by time: what waits before a newcomer, in tokens, over the rate at which
tokens of seats are given back says how long it would wait, and whoever cannot start in time is told at once when asking again
makes sense. A queue is no fault in itself: a burst makes one, and so do clients who each wait for their answer before they
send the next call; both are served best by letting them wait. But when window after window more is asked for than is given back,
waiting helps nobody: then newcomers may only wait for a short time, so that everybody's wait is short while the replicas are as
busy as before (CoDel's distinction of good queues from bad ones, Nichols and Jacobson, 2012, made at the entry, where refusing
is cheapest).

The queue is bounded in number too. A tenant may fill it only in proportion to the room that is left, so one that floods always
leaves some for the others (dynamic thresholds, Choudhury and Hahne, 1998), and lower classes leave some for higher ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cordee.domain.call import Priority
from cordee.domain.outcome import Refusal, Why
from cordee.domain.record import record
from cordee.policy.drain import Demand, Drain
from cordee.policy.line import CLASSES, Line, Ticket
from cordee.policy.route import Replica, Router

if TYPE_CHECKING:
    from random import Random

RETRY_AFTER_S_MAX = 60.0
JITTER = 0.25  # ± share of Retry-After, so that those refused together do not come back together
TENANT_ROOM = 8  # a tenant may have this many times as many calls waiting as there are places left
CLASS_ROOM = (1.0, 0.95, 0.8)  # of the places, by class: what batch calls may fill, interactive ones still find room in


@dataclass(frozen=True, slots=True)
class SeatRules:
    """`waiting_max` calls wait at most `wait_s_max` seconds; `gateways` share the replicas. After `ageing_s` a call moves up one
    class. While more is asked for than given back, over windows of `window_s`, only those get in who would wait less than
    `overload_wait_s`. The service of a token written is `output_weight` times that of one read. Up to `tenants_max` idle tenants
    are remembered."""

    wait_s_max: float = 30.0
    waiting_max: int = 4096
    gateways: int = 1
    ageing_s: float = 20.0
    window_s: float = 1.0
    overload_wait_s: float = 1.0
    output_weight: float = 2.0
    tenants_max: int = 4096


@record
class Seated:
    """The seat is taken on `replica` from now on; whoever holds it calls `replica.left(size)` once. `number` is what the
    replica's breaker gave this attempt: how it ends is reported under it."""

    replica: Replica
    number: int = 0


@record
class Queued:
    """`position` counts those in front at most, `wait_s` is how long that takes at the measured rate, 0 while none was
    measured."""

    position: int
    wait_s: float = 0.0


@record
class Granted:
    """A ticket that waited has its seat, or its refusal."""

    ticket: Ticket
    answer: Seated | Refusal


class Seats:
    """The seats of one pool."""

    __slots__ = (
        "_accepted", "_demand", "_drain", "_line", "clouds", "model", "replicas", "router", "rules", "turns",
    )  # fmt: skip

    def __init__(self, model: str, rules: SeatRules, router: Router | None = None) -> None:
        self.model = model
        self.rules = rules
        self.router = router or Router()
        self.replicas = self.router.replicas
        self.clouds: list[Replica] = []  # in order of preference; only flow.pool's gate sends anybody there
        self.turns = 0  # given to those who waited
        self._line = Line(rules.tenants_max)
        self._accepted: dict[Ticket, None] = {}  # those who had a seat and lost it, in order of arrival
        self._drain = Drain()
        self._demand = Demand()

    @property
    def waiting(self) -> int:
        return self._line.waiting + len(self._accepted)

    def ask(self, now: float, rng: Random, ticket: Ticket) -> Seated | Queued | Refusal:
        if ticket.accepted:
            return self._ask_again(now, rng, ticket)
        line = self._line
        if (not line.waiting and not self._accepted and ticket.priority < line.held_from) or self._is_first(ticket):
            seated = self._pick(now, rng, ticket)
            if seated is not None:
                return seated
        tokens, position = line.before(ticket) if line.waiting else (0, 0)
        wait_s = self._drain.seconds(now, tokens + ticket.size.tokens) if self.waiting else 0.0
        self._demand.asked(now, self.rules.window_s)
        why = self._full(now, ticket, wait_s)
        if why:
            return self._refusal(rng, Why.QUEUE_FULL, why, wait_s, position)
        if not self.waiting:
            self._drain.begins(now)
        line.push(now, ticket)
        return Queued(position + len(self._accepted), wait_s)

    def withdraw(self, ticket: Ticket) -> None:
        """The call has gone. Idempotent."""
        if not self._line.discard(ticket):
            self._accepted.pop(ticket, None)
        if not self._line.waiting:
            self._demand.rest()

    def went_out(self, ticket: Ticket) -> None:
        """The call has found a seat elsewhere, at once or after a wait: what it asked for was given. To be called once for each
        `ask`, even one that was refused a place in the queue."""
        if not ticket.accepted:
            self._demand.given += 1
        self.withdraw(ticket)

    def departed(self, now: float, tokens: int, held_s: float = 0.0) -> None:
        """A seat of so many tokens, taken `held_s` ago, was given back while others wait; its replica knows of it already."""
        if self.waiting:
            out = sum(one.mine_tokens for one in self.replicas) if self._drain.is_new else 0
            self._drain.note(now, tokens, held_s, out)
            self._demand.given += 1

    def anew(self, now: float) -> None:
        """There was nobody to answer, or there is now: how fast seats came back before says nothing of what comes."""
        self._drain = Drain()
        self._demand.rest()
        if self.waiting:
            self._drain.begins(now)

    def settled(self, ticket: Ticket, tokens_in: int, tokens_out: int) -> None:
        """A call whose tenant was charged for its turn (`ticket.charged`) has ended, and this is what it was."""
        self._line.correct(ticket, tokens_in + self.rules.output_weight * tokens_out)
        ticket.charged = 0

    def hold(self, priority: Priority | None) -> None:
        """Calls of this class and below get no turns from now on; None: everybody does."""
        self._line.held_from = CLASSES if priority is None else int(priority)

    def overdue(self, now: float, rng: Random) -> list[Granted]:
        """Refusals for those whose time to start is over."""
        refused = []
        for ticket in self._line.late(now):
            wait_s = self.expected_wait_s(now)
            refused.append(
                Granted(ticket, self._refusal(rng, Why.QUEUE_TIMEOUT, "no seat became free in time", wait_s))
            )
        for ticket in [one for one in self._accepted if now >= one.start_by_s]:
            del self._accepted[ticket]
            refused.append(Granted(ticket, self._refusal(rng, Why.DEADLINE, "no seat became free in time", 0.0)))
        return refused

    def due(self, now: float, rng: Random) -> list[Granted]:
        """Seats for those who can have one now. A head that fits nowhere waits, and those behind it with it: small calls do
        not starve large ones. An accepted call does not wait for room but for a replica that may continue it: nobody else
        has to wait for that too."""
        granted: list[Granted] = []
        if self._accepted:
            for ticket in list(self._accepted):
                seated = self._pick(now, rng, ticket)
                if seated is not None:
                    del self._accepted[ticket]
                    granted.append(Granted(ticket, seated))
        line = self._line
        while line.waiting:
            head = line.head(now, self.rules.ageing_s)
            if head is None:
                break
            seated = self._pick(now, rng, head)
            if seated is None:
                break
            line.take(head)
            self.turns += 1
            granted.append(Granted(head, seated))
        if not line.waiting:
            self._demand.rest()
        return granted

    def expected_wait_s(self, now: float, priority: Priority = Priority.STANDARD) -> float:
        """How long the whole line of this class and those above it takes at the measured rate; 0 while none was measured."""
        return self._drain.seconds(now, self._line.tokens_to(priority))

    # -- inside

    def _ask_again(self, now: float, rng: Random, ticket: Ticket) -> Seated | Queued:
        seated = self._pick(now, rng, ticket)
        if seated is not None:
            return seated
        position = len(self._accepted)
        if not self.waiting:
            self._drain.begins(now)
        self._accepted[ticket] = None
        return Queued(position)

    def _is_first(self, ticket: Ticket) -> bool:
        """Nobody waits who would go before it: lower classes do not hold a higher one up."""
        priority = ticket.priority
        return priority < self._line.held_from and not self._accepted and not self._line.tokens_to(priority)

    def _full(self, now: float, ticket: Ticket, wait_s: float) -> str:
        """Why there is no place for it in the queue; "" if there is."""
        rules, waiting = self.rules, self.waiting
        sequences = ticket.size.sequences
        if sequences > 1 and self.replicas and sequences > max(one.capacity.sequences for one in self.replicas):
            return f"no replica answers {sequences} choices at once"  # it would hold the others up for nothing
        places = math.ceil(rules.waiting_max * CLASS_ROOM[ticket.priority])
        if waiting >= places:
            return f"{waiting} calls are already waiting"
        if self._line.waiting_of(ticket) >= TENANT_ROOM * (places - waiting):
            return f"of {waiting} waiting calls too many are of this tenant"
        if now + wait_s > ticket.start_by_s:
            return f"the expected wait of {wait_s:.0f} s is too long"
        if wait_s > rules.overload_wait_s and self._demand.is_too_much:
            return f"more is asked for than can be answered, the wait would be {wait_s:.0f} s"
        return ""

    def _pick(self, now: float, rng: Random, ticket: Ticket) -> Seated | None:
        alone = self.rules.gateways <= 1
        found = self.router.ask(now, rng, ticket.want, alone=alone)
        if found is None and ticket.priority is Priority.INTERACTIVE:  # a full replica may let others make room for it
            found = self.router.ask(now, rng, replace(ticket.want, presses=True), alone=alone)
        if found is None:
            return None
        found.began(ticket.want.size)  # at once, before the next in line is decided on
        ticket.seated_s = now
        breaker = found.breaker
        return Seated(found, breaker.number if breaker.is_closed else breaker.began(now))

    def _refusal(self, rng: Random, why: Why, what: str, wait_s: float, position: int | None = None) -> Refusal:
        after_s = min(RETRY_AFTER_S_MAX, max(1.0, wait_s)) * (1 + JITTER * (2 * rng.random() - 1))
        message = f"model {self.model!r} is at capacity: {what}"
        return Refusal(why, message, max(1.0, after_s), position, wait_s if wait_s else None)


__all__ = ["Granted", "Queued", "SeatRules", "Seated", "Seats", "Ticket"]
