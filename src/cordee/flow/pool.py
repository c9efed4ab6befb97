"""A pool in motion: its seats (policy), the way to each replica, and who waits for a seat."""

from __future__ import annotations

from random import Random

from cordee.domain.outcome import Refusal
from cordee.domain.replica import Load
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.policy.after import AttemptRules
from cordee.policy.retry import RetryBudget
from cordee.policy.route import Replica
from cordee.policy.seats import Queued, Seated, Seats, Ticket
from cordee.ports import Clock, Upstream


class Pool:
    """The replicas of one model."""

    __slots__ = ("_boxes", "_settling", "budget", "clock", "model", "rng", "rules", "seats", "upstreams")

    def __init__(self, seats: Seats, budget: RetryBudget, rules: AttemptRules, clock: Clock, rng: Random) -> None:
        self.model = seats.model
        self.seats = seats
        self.budget = budget
        self.rules = rules
        self.clock = clock
        self.rng = rng
        self.upstreams: dict[str, Upstream] = {}
        self._boxes: dict[Ticket, Mailbox[Fact]] = {}
        self._settling = False

    @property
    def is_ready(self) -> bool:
        return any(replica.ready for replica in self.seats.replicas)

    def ask(self, ticket: Ticket, box: Mailbox[Fact]) -> Seated | Queued | Refusal:
        """A seat now, or a place in the queue: then the seat or a refusal is posted to `box`."""
        answer = self.seats.ask(self.clock.now(), self.rng, ticket)
        if isinstance(answer, Queued):
            self._boxes[ticket] = box
        return answer

    def withdraw(self, ticket: Ticket) -> None:
        self.seats.withdraw(ticket)
        self._boxes.pop(ticket, None)

    def leave(self, replica: Replica, ticket: Ticket) -> None:
        """A seat is given back."""
        replica.left(ticket.size)
        if self.seats.waiting:
            self.seats.departed(self.clock.now())
            self.settle()

    def join(self, replica: Replica, upstream: Upstream) -> None:
        self.seats.replicas.append(replica)
        self.upstreams[replica.id] = upstream
        self.settle()

    def reported(self, replica: Replica, load: Load) -> None:
        replica.reported(load)
        if self.seats.waiting:
            self.settle()

    def tick(self) -> None:
        """Time has passed: refuse those who waited too long, seat those who can be."""
        if self.seats.waiting:
            for grant in self.seats.overdue(self.clock.now(), self.rng):
                self._boxes.pop(grant.ticket).post(grant.answer)
            self.settle()

    def settle(self) -> None:
        """Seat those who can be. Posting may free or take further seats: done in rounds, not recursively."""
        if self._settling:
            return
        self._settling = True
        try:
            while granted := self.seats.due(self.clock.now(), self.rng):
                for grant in granted:
                    self._boxes.pop(grant.ticket).post(grant.answer)
        finally:
            self._settling = False
