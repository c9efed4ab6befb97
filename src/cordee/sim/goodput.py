"""Overload in virtual time: what a pool still serves when far more is asked of it than it can do, and how it comes back.

The decisions are production's (policy.seats, policy.degrade); the rest is made simple, because hundreds of thousands of calls
have to pass in seconds: a call occupies a slot for the time its tokens take. Arrivals are open loop: nobody waits for an answer
before sending the next call, and whoever is refused comes back. A run is a function of its seed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random

from cordee.domain.call import Priority
from cordee.domain.outcome import Refusal
from cordee.domain.replica import Capacity, ReplicaKind
from cordee.memory.clock import VirtualClock
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.degrade import DegradeRules, Ladder, Step
from cordee.policy.route import Replica, Size, Want
from cordee.policy.seats import Queued, Seated, SeatRules, Seats, Ticket

TICK_S = 0.02
LOOK_S = 0.25
MODEL = "sim"
LATEST_S = 1_000_000.0  # beyond any run: the later one came, the earlier one goes
SOON_S = 0.05  # after which an impatient client comes back, whatever it was told
FIRST_RULES, STEPS = SeatRules(), DegradeRules()


@dataclass(frozen=True, slots=True)
class Phase:
    """`load` times the capacity is offered for `seconds`."""

    load: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Storm:
    """`interactive`: the load of that class, at most half of what is offered; of the rest `batch` is of the lowest class.
    Refused clients come back up to `retries` times, `obedient` ones not before they were told. They leave after `patience_s`
    without a first token, which they do not announce. `flood`: one tenant sends that many times as much as each other one.
    `newest_first`: equals in the opposite order, for comparison."""

    phases: tuple[Phase, ...]
    replicas: int = 4
    slots: int = 16
    prompt_tokens: int = 200
    answer_tokens: int = 100
    token_s: float = 0.01
    interactive: float = 0.4
    batch: float = 0.3
    retries: int = 3
    obedient: bool = True
    patience_s: float = 15.0
    tenants: int = 20
    flood: float = 1.0
    newest_first: bool = False
    degrades: bool = True
    rules: SeatRules = FIRST_RULES
    steps: DegradeRules = STEPS

    @property
    def capacity(self) -> float:
        """Calls a second that all slots together can do."""
        return self.replicas * self.slots / (self.answer_tokens * self.token_s)


@dataclass(slots=True)
class Client:
    """Somebody who wants one answer."""

    priority: Priority
    tenant: int
    tokens: int
    since_s: float
    asked_s: float = 0.0
    tries: int = 0
    ticket: Ticket | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that got a seat: `wait_s` after it arrived, whatever it was told in between, and `queue_s` after it last asked."""

    arrived_s: float
    priority: Priority
    tenant: int
    wait_s: float
    queue_s: float
    tokens: int


@dataclass(slots=True)
class Seen:
    """What is measured."""

    served: list[Answered] = field(default_factory=list)
    ended: list[tuple[float, int]] = field(default_factory=list)  # when, tokens
    refused: list[tuple[float, float]] = field(default_factory=list)  # when, how long after asking
    lost: list[tuple[float, Priority]] = field(default_factory=list)  # arrivals that nobody answered in the end
    asks: int = 0
    steps: list[tuple[float, Step]] = field(default_factory=list)


class House:
    """One pool under one storm."""

    def __init__(self, seed: int, storm: Storm) -> None:
        self.storm = storm
        self.rng = Random(seed)  # noqa: S311  # a storm that can be repeated
        self.clock = VirtualClock()
        self.seen = Seen()
        self.ladder = Ladder(storm.steps)
        rules = storm.rules
        self.seats = Seats(MODEL, rules)
        capacity = Capacity(storm.slots, storm.slots * 4096)
        for number in range(storm.replicas):
            replica = Replica(f"r{number}", ReplicaKind.HTTP, capacity, "f", Breaker(BreakerRules()))
            replica.ready = True
            self.seats.replicas.append(replica)
        self._waiting: dict[Ticket, Client] = {}
        self._load = 0.0
        self._until_s = sum(phase.seconds for phase in storm.phases)

    def run(self) -> Seen:
        start_s = 0.0
        for phase in self.storm.phases:
            self.clock.call_later(start_s, self._set(phase.load))
            start_s += phase.seconds
        self.clock.call_later(0.0, self._tick)
        self.clock.call_later(0.0, self._look)
        self.clock.call_later(0.0, self._next)
        self.clock.run(self._until_s)
        return self.seen

    # -- arrivals

    def _set(self, load: float) -> Callable[[], None]:
        def put() -> None:
            self._load = load

        return put

    def _next(self) -> None:
        rate = self._load * self.storm.capacity
        self.clock.call_later(self.rng.expovariate(rate), self._next)
        self._ask(self._client())

    def _client(self) -> Client:
        storm, rng = self.storm, self.rng
        share = min(storm.interactive, self._load / 2) / self._load
        drawn = rng.random()
        if drawn < share:
            priority = Priority.INTERACTIVE
        else:
            priority = Priority.BATCH if rng.random() < storm.batch else Priority.STANDARD
        others = storm.tenants - 1
        tenant = 0 if rng.random() < storm.flood / (storm.flood + others) else 1 + int(rng.random() * others)
        tokens = max(1, min(10 * storm.answer_tokens, int(rng.expovariate(1 / storm.answer_tokens) + 0.5)))
        return Client(priority, tenant, tokens, self.clock.now())

    # -- the way of a call

    def _ask(self, client: Client) -> None:
        storm, now = self.storm, self.clock.now()
        self.seen.asks += 1
        client.asked_s = now
        if self.ladder.step >= Step.CACHE_ONLY and storm.degrades:
            self._refused(client, LOOK_S, 0.0)
            return
        start_by_s = LATEST_S - now if storm.newest_first else now + storm.rules.wait_s_max
        size = Size(1, storm.prompt_tokens + client.tokens)
        ticket = client.ticket = Ticket("", client.priority, Want(size), start_by_s, f"t{client.tenant}")
        answer = self.seats.ask(now, self.rng, ticket)
        if isinstance(answer, Seated):
            self._start(client, answer.replica)
        elif isinstance(answer, Queued):
            self._waiting[ticket] = client
            self.clock.call_later(storm.patience_s, lambda: self._leave(ticket))
        else:
            self._refused(client, answer.retry_after_s or 1.0, 0.0)

    def _start(self, client: Client, replica: Replica) -> None:
        now, ticket = self.clock.now(), client.ticket
        assert ticket is not None
        wait_s, queue_s = now - client.since_s, now - client.asked_s
        self.seen.served.append(
            Answered(client.since_s, client.priority, client.tenant, wait_s, queue_s, client.tokens)
        )
        self.clock.call_later(client.tokens * self.storm.token_s, lambda: self._end(client, ticket, replica))

    def _end(self, client: Client, ticket: Ticket, replica: Replica) -> None:
        now = self.clock.now()
        self.seen.ended.append((now, client.tokens))
        replica.left(ticket.size)
        if ticket.charged:
            self.seats.settled(ticket, self.storm.prompt_tokens, client.tokens)
        if self.seats.waiting:
            self.seats.departed(now, ticket.size.tokens, now - ticket.seated_s)
            self._settle()

    def _settle(self) -> None:
        for grant in self.seats.due(self.clock.now(), self.rng):
            client = self._waiting.pop(grant.ticket)
            assert isinstance(grant.answer, Seated)
            self._start(client, grant.answer.replica)

    def _leave(self, ticket: Ticket) -> None:
        """Its patience is over."""
        client = self._waiting.pop(ticket, None)
        if client is not None:
            self.seats.withdraw(ticket)
            self.seen.lost.append((client.since_s, client.priority))

    def _refused(self, client: Client, retry_after_s: float, after_s: float) -> None:
        now = self.clock.now()
        self.seen.refused.append((now, after_s))
        client.tries += 1
        pause_s = retry_after_s if self.storm.obedient else SOON_S
        if client.tries > self.storm.retries or now + pause_s > client.since_s + self.storm.patience_s:
            self.seen.lost.append((client.since_s, client.priority))
        else:
            self.clock.call_later(pause_s, lambda: self._ask(client))

    # -- the timers

    def _tick(self) -> None:
        now = self.clock.now()
        if not self.storm.newest_first:
            for grant in self.seats.overdue(now, self.rng):
                client = self._waiting.pop(grant.ticket)
                assert isinstance(grant.answer, Refusal)
                self._refused(client, grant.answer.retry_after_s or 1.0, now - client.asked_s)
        self._settle()
        self.clock.call_later(TICK_S, self._tick)

    def _look(self) -> None:
        now = self.clock.now()
        if self.storm.degrades:
            used = sum(replica.used for replica in self.seats.replicas)
            utilisation = used / (self.storm.replicas * self.storm.slots)
            wait_s, urgent_s = (self.seats.expected_wait_s(now, p) for p in (Priority.STANDARD, Priority.INTERACTIVE))
            step = self.ladder.note(now, wait_s, urgent_s, utilisation)
            self.seats.hold(Priority.BATCH if step >= Step.BATCH_HELD else None)
            if not self.seen.steps or self.seen.steps[-1][1] is not step:
                self.seen.steps.append((now, step))
        self.clock.call_later(LOOK_S, self._look)


def without_bound(storm: Storm) -> Storm:
    """The same with a queue that lets everybody wait as long as they may: for comparison."""
    return replace(storm, rules=replace(storm.rules, overload_wait_s=math.inf))
