"""A pool in motion: its seats (policy), the way to each replica, and who waits for a seat.

A call that finds no seat here may have one in the cloud, if the pool's gate lets it out: only what would have to wait is
asked about, and of those who wait already the least sensitive first.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Protocol

from cordee.domain.call import Call
from cordee.domain.outcome import Refusal
from cordee.domain.replica import Continuation, Load, ReplicaKind
from cordee.flow.answer import Answer
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.policy.after import AttemptRules
from cordee.policy.hedge import Hedge
from cordee.policy.retry import RetryBudget
from cordee.policy.route import Replica, Size, Want
from cordee.policy.seats import Queued, Seated, Seats, Ticket
from cordee.ports import Clock, Upstream

if TYPE_CHECKING:
    from cordee.flow.ward import Ward


PLAIN_MAX = 1024  # sizes of calls remembered


class Gate(Protocol):
    """Who may leave this installation, and where to."""

    def may_leave(self, call: Call) -> bool:
        """Whether it ever may, whatever the load."""
        ...

    def out(self, now: float, call: Call, want: Want, pool: Pool) -> Replica | None:
        """The cloud replica that takes this call now, its money reserved; None: it waits here."""
        ...


class Place(Protocol):
    """A call's place in the queue, as somebody tells its client of it."""

    def over(self, fact: Seated | Refusal | None) -> None:
        """It has its seat, or its refusal; None: it has gone."""
        ...


class Desk(Protocol):
    """Tells those who wait where they stand."""

    def queued(self, call: Call, answer: Answer, pool: Pool, asked: Queued) -> Place | None: ...


class Pool:
    """The replicas of one model. `loads`: the last report of each. `journal_bytes_max`: 0 while no server could go on from
    what left of a forwarded answer."""

    __slots__ = (
        "_boxes", "_leaving", "_plain", "_settling", "budget", "clock", "desk", "gate", "hedge", "journal_bytes_max", "loads", "model",
        "rests_until_s", "rng", "rules", "seats", "summons", "upstreams", "ward",
    )  # fmt: skip

    def __init__(self, seats: Seats, budget: RetryBudget, rules: AttemptRules, clock: Clock, rng: Random) -> None:
        self.model = seats.model
        self.seats = seats
        self.budget = budget
        self.rules = rules
        self.clock = clock
        self.rng = rng
        self.upstreams: dict[str, Upstream] = {}
        self.gate: Gate | None = None
        self.hedge: Hedge | None = None  # where first tokens are hedged for
        self.desk: Desk | None = None  # where those who wait are told of it
        self.ward: Ward | None = None  # where calls are suspected of killing workers
        self.summons: Callable[[], None] | None = None  # where somebody can bring replicas when there is none
        self.rests_until_s = 0.0  # some server of it has asked to be left alone until then
        self.journal_bytes_max = 0
        self.loads: dict[str, Load] = {}
        self._boxes: dict[Ticket, Mailbox[Fact]] = {}
        self._leaving: dict[Ticket, Call] = {}  # those of the waiting who may leave
        self._plain: dict[
            int, Want
        ] = {}  # what calls want that ask for nothing but room, by their tokens, negative for the highest class
        self._settling = False

    @property
    def is_ready(self) -> bool:
        return self.has_local or any(replica.ready for replica in self.seats.clouds)

    @property
    def has_local(self) -> bool:
        """Whether anybody of this installation can answer."""
        return any(replica.ready for replica in self.seats.replicas)

    def want(self, call: Call) -> Want:
        """What a call asks of its first replica. Most ask for nothing but room, and come in few sizes: they share their wants."""
        sequences, tokens = call.sequences, call.cost
        work = call.work
        own = work is not None and (work.adapter != "" or work.items != ())  # others are asked with the body as it came
        if sequences > 1 or call.attach or call.affinity or call.region or own:
            size = Size(sequences, tokens, sequences if call.priority else 0)
            return Want(size, prefer=call.attach, affinity=call.affinity, region=call.region, own=own)
        kind = tokens if call.priority else -tokens
        want = self._plain.get(kind)
        if want is None:
            if len(self._plain) >= PLAIN_MAX:
                self._plain.clear()
            want = self._plain[kind] = Want(Size(sequences, tokens, 1 if call.priority else 0))
        return want

    def ask(self, ticket: Ticket, box: Mailbox[Fact], call: Call | None = None) -> Seated | Queued | Refusal:
        """A seat now, or a place in the queue: then the seat or a refusal is posted to `box`."""
        answer = self.seats.ask(self.clock.now(), self.rng, ticket)
        if isinstance(answer, Seated):
            return answer
        gate = self.gate
        if gate is not None and call is not None and not ticket.want.fingerprint and gate.may_leave(call):
            seated = self._out(gate, ticket, call)
            if seated is not None:
                self.seats.went_out(ticket)
                return seated
            if isinstance(answer, Queued):
                self._leaving[ticket] = call
        if isinstance(answer, Queued):
            self._boxes[ticket] = box
            if self.summons is not None and not self.has_local:
                self.summons()
        return answer

    def withdraw(self, ticket: Ticket) -> None:
        self.seats.withdraw(ticket)
        self._boxes.pop(ticket, None)
        self._leaving.pop(ticket, None)

    def dismiss(self, refusal: Refusal) -> None:
        """Whoever waits is refused: nobody is going to come."""
        for ticket in list(self._boxes):
            self.seats.withdraw(ticket)
            self._box(ticket).post(refusal)

    def leave(self, replica: Replica, ticket: Ticket) -> None:
        """A seat is given back."""
        replica.left(ticket.want.size)
        if replica.kind is ReplicaKind.CLOUD:
            if self._leaving:
                self.spill()
            return
        if self.seats.waiting:
            now = self.clock.now()
            self.seats.departed(now, ticket.size.tokens, now - ticket.seated_s)
            # A seat at a replica that is out helps nobody. It is given back once by each of its calls, which all wait by then: to
            # look at all of them each time would take seconds for a thousand.
            if replica.ready:
                self.settle()

    def join(self, replica: Replica, upstream: Upstream) -> None:
        self.seats.replicas.append(replica)
        self.upstreams[replica.id] = upstream
        self._may_continue(replica)
        self.settle()

    def join_cloud(self, replica: Replica, upstream: Upstream) -> None:
        """Another place outside, behind those that are there already."""
        self.seats.clouds.append(replica)
        self.upstreams[replica.id] = upstream
        self._may_continue(replica)

    def reported(self, replica: Replica, load: Load) -> None:
        replica.reported(load)
        self.loads[replica.id] = load
        if self.seats.waiting:
            self.settle()

    def tick(self) -> None:
        """Time has passed: refuse those who waited too long, seat those who can be."""
        if self.seats.waiting:
            for grant in self.seats.overdue(self.clock.now(), self.rng):
                self._box(grant.ticket).post(grant.answer)
            self.settle()
            if self._leaving:
                self.spill()
            if self.summons is not None and self.seats.waiting and not self.has_local:
                self.summons()

    def settle(self) -> None:
        """Seat those who can be. Posting may free or take further seats: done in rounds, not recursively."""
        if self._settling:
            return
        self._settling = True
        try:
            while granted := self.seats.due(self.clock.now(), self.rng):
                for grant in granted:
                    self._box(grant.ticket).post(grant.answer)
        finally:
            self._settling = False

    def spill(self) -> None:
        """Of those who wait, let out who may leave now: the least sensitive first, among equals the first that came."""
        gate = self.gate
        if gate is None or not self._has_room_outside():
            return
        for ticket, call in sorted(self._leaving.items(), key=_sensitivity):
            if ticket not in self._leaving:
                continue  # posting to another one has ended this one's wait
            seated = self._out(gate, ticket, call)
            if seated is not None:
                self.seats.went_out(ticket)
                self._box(ticket).post(seated)
            elif not self._has_room_outside():
                return

    def _out(self, gate: Gate, ticket: Ticket, call: Call) -> Seated | None:
        now = self.clock.now()
        replica = gate.out(now, call, ticket.want, self)
        if replica is None:
            return None
        replica.began(ticket.size)
        breaker = replica.breaker
        return Seated(replica, breaker.number if breaker.is_closed else breaker.began(now))

    def _has_room_outside(self) -> bool:
        return any(cloud.ready and cloud.used < cloud.capacity.sequences for cloud in self.seats.clouds)

    def _box(self, ticket: Ticket) -> Mailbox[Fact]:
        self._leaving.pop(ticket, None)
        return self._boxes.pop(ticket)

    def _may_continue(self, replica: Replica) -> None:
        if replica.kind is not ReplicaKind.LINK and replica.continues > Continuation.RESTART:
            self.journal_bytes_max = self.rules.journal_bytes_max


def _sensitivity(entry: tuple[Ticket, Call]) -> int:
    return entry[1].sensitivity
