"""A world in virtual time: one gateway's pool, its workers, calls that arrive, faults that strike, and a checker for each
promise. A run is a function of its seed; a run that fails is a seed to keep."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from cordee.domain.call import Call, Deadlines, Priority, Sampling, Work
from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.outcome import End, Outcome, Why
from cordee.domain.replica import Capacity, ReplicaKind
from cordee.flow.answer import Answer, Counts
from cordee.flow.facts import GONE, Fact
from cordee.flow.guard import guarded
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.flow.serve import outcome, serve
from cordee.flow.trip import Trip
from cordee.flow.ward import Ward
from cordee.flow.watch import Watch
from cordee.memory.clock import VirtualClock
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.hedge import Hedge, HedgeRules
from cordee.policy.oracle import token_at
from cordee.policy.quarantine import Quarantine, QuarantineRules
from cordee.policy.retry import RetryBudget, RetryRules
from cordee.policy.route import Replica
from cordee.policy.seats import SeatRules, Seats
from cordee.sim.worker import POISON, SimWorker, Speed

PATIENT = Deadlines(total_s=120.0, first_token_s=60.0, between_tokens_s=60.0)
LONG_QUEUE = SeatRules(wait_s_max=60.0)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens. `faults` strike at random times during the arrivals; each is over after `repair_s`. `poison` of the calls kill
    whoever computes their prompt; one first token in `slow_every` takes `slow_first_s`."""

    calls: int = 200
    workers: int = 3
    slots: int = 8
    tokens: int = 40
    first_token_s: float = 0.02
    token_s: float = 0.01
    arrivals_s: float = 4.0
    faults: int = 4
    repair_s: float = 0.6
    leaving: float = 0.05
    choices_max: int = 3
    deadlines: Deadlines = PATIENT
    seats: SeatRules = LONG_QUEUE
    poison: int = 0
    slow_every: int = 0
    slow_first_s: float = 0.0
    jitter: float = 0.0
    hedge: HedgeRules = field(default_factory=HedgeRules)
    quarantine: QuarantineRules = field(default_factory=QuarantineRules)


@dataclass(slots=True)
class SimSink:
    """The client's side: it keeps what it is given."""

    n: int
    got: list[array[int]] = field(default_factory=list)
    finishes: list[Finish] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.got = [array("I") for _ in range(self.n)]

    def token(self, choice: int, token: int, logprobs: TokenLogprobs | None) -> bool:
        self.got[choice].append(token)
        return False

    def finish(self, choice: int, why: Finish) -> None:
        self.finishes.append(why)

    def text(self, choice: int, text: str, why: Finish) -> None: ...

    def usage(self, tokens_in: int, tokens_out: int) -> None: ...

    def cached(self, tokens: int) -> None: ...

    def result(self, choice: int, data: bytes) -> None: ...

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None: ...

    def body(self, data: bytes) -> bool:
        return True

    def complete(self) -> None: ...


class World:
    """One run. After `run` the checkers may be asked."""

    def __init__(self, seed: int, scenario: Scenario) -> None:
        self.scenario = scenario
        self.rng = Random(seed)  # noqa: S311  # a world that can be repeated
        self.clock = VirtualClock()
        self.counts = Counts()
        seats = Seats("oracle", scenario.seats)
        budget = RetryBudget(RetryRules(), 0.0)
        self.pool = Pool(seats, budget, AttemptRules(continuations_max=64), self.clock, self.rng)
        self.quarantine = Quarantine(scenario.quarantine)
        self.pool.ward = self.ward = Ward(self.pool, self.quarantine)
        self.pool.hedge = Hedge(scenario.hedge) if scenario.hedge.enabled else None
        self.watch = Watch(self.clock, [self.pool])
        self.deaths = 0  # by poison
        self.poisonous = {number * scenario.calls // scenario.poison for number in range(scenario.poison)}
        self.workers = [self._worker(number, seed) for number in range(scenario.workers)]
        self.sinks: dict[str, SimSink] = {}
        self.calls: dict[str, Call] = {}
        self.outcomes: dict[str, list[Outcome]] = {}
        self.seats_over = 0

    def run(self) -> None:
        scenario, rng = self.scenario, self.rng
        for number in range(scenario.calls):
            self.clock.call_later(rng.random() * scenario.arrivals_s, lambda number=number: self._arrive(number))  # type: ignore[misc]
        for _ in range(scenario.faults):
            self.clock.call_later(rng.random() * scenario.arrivals_s, self._strike)
        self.clock.run(until_s=scenario.arrivals_s + scenario.deadlines.total_s + 1)

    # -- the checkers

    def wrong_answers(self) -> list[str]:
        """Served calls whose tokens are not exactly the oracle's."""
        return [id for id, all in self.outcomes.items() if all[-1].end is End.SERVED and not self._is_exact(id)]

    def wrong_beginnings(self) -> list[str]:
        """Calls, however they ended, that were given a token that is not the oracle's at that place."""
        return [id for id in self.calls if not self._is_prefix(id)]

    def without_one_outcome(self) -> list[str]:
        return [id for id in self.calls if len(self.outcomes.get(id, [])) != 1]

    def not_served(self) -> list[str]:
        """Calls whose client stayed and that were neither answered nor refused as poison."""
        wanted = (End.SERVED, End.ABANDONED)
        return [
            f"{id}: {all[-1].why}"
            for id, all in self.outcomes.items()
            if all[-1].end not in wanted and all[-1].why is not Why.QUARANTINED
        ]

    def accused(self) -> list[str]:
        """Calls that were refused as poison and are none."""
        return [
            id
            for id, all in self.outcomes.items()
            if all[-1].why is Why.QUARANTINED and POISON not in self._work(id).prompt
        ]

    def leaks(self) -> dict[str, int]:
        """What should be zero when everything is over."""
        return {
            "seats": sum(replica.mine for replica in self.pool.seats.replicas),
            "waiting": self.pool.seats.waiting,
            "open": len(self.watch.open),
            "running": sum(worker.running for worker in self.workers),
            "suspects": len(self.ward.waiting) + len(self.quarantine.suspects),
        }

    # -- inside

    def _worker(self, number: int, seed: int) -> SimWorker:
        scenario = self.scenario
        capacity = Capacity(scenario.slots, scenario.slots * 4096)
        replica = Replica(f"w{number}", ReplicaKind.LINK, capacity, "oracle", Breaker(BreakerRules()), exact=True)
        replica.ready = True
        speed = Speed(
            scenario.first_token_s, scenario.token_s, scenario.slow_every, scenario.slow_first_s, scenario.jitter
        )
        rng = Random(seed * 1009 + number)  # noqa: S311  # its own, so that its draws change nobody else's
        worker = SimWorker(self.clock, self.pool, replica, scenario.slots, speed, rng, self._poisoned)
        self.pool.join(replica, worker)
        return worker

    def _arrive(self, number: int) -> None:
        rng, scenario = self.rng, self.scenario
        n = rng.randint(1, scenario.choices_max)
        prompt = array("I", [POISON if number in self.poisonous else 1, number, *range(6)])
        work = Work(prompt, 1 + rng.randrange(scenario.tokens), n, Sampling(seed=number << 8))
        priority = Priority(rng.randrange(3))
        id = f"call-{number:05}"
        call = Call(
            id, "oracle", f"tenant-{number % 3}", "/v1/chat/completions", True, self.clock.now(), priority,
            scenario.deadlines, work,
        )  # fmt: skip
        sink, box = SimSink(n), Mailbox[Fact]()
        answer = Answer(call, sink, box, self.clock, self.counts)
        self.calls[id], self.sinks[id] = call, sink
        self.watch.add(answer)
        box.run(self._walk(call, answer))
        if rng.random() < scenario.leaving:
            self.clock.call_later(rng.random() * 0.5, lambda: box.post(GONE))

    async def _walk(self, call: Call, answer: Answer) -> None:
        trip = Trip()
        if self.quarantine.is_watching:
            result = await guarded(call, answer, self.pool, self.ward, trip)
        else:
            result = await serve(call, answer, self.pool, trip)
        self.watch.remove(answer)
        self.outcomes.setdefault(call.id, []).append(outcome(call, answer, trip, result, self.clock.now()))

    def _poisoned(self, worker: SimWorker) -> None:
        self.deaths += 1
        self.clock.call_later(self.scenario.repair_s, worker.revive)

    def _strike(self) -> None:
        worker = self.rng.choice(self.workers)
        if self.rng.random() < 0.5:
            worker.die()
            self.clock.call_later(self.scenario.repair_s, worker.revive)
        else:
            worker.freeze()
            self.clock.call_later(self.scenario.repair_s, worker.thaw)

    def _is_exact(self, id: str) -> bool:
        work, sink = self._work(id), self.sinks[id]
        whole = all(len(got) == work.max_tokens for got in sink.got)
        return whole and len(sink.finishes) == work.n and self._is_prefix(id)

    def _is_prefix(self, id: str) -> bool:
        work = self._work(id)
        return all(
            token == token_at(work.sampling.seed + choice, index)
            for choice, got in enumerate(self.sinks[id].got)
            for index, token in enumerate(got)
        )

    def _work(self, id: str) -> Work:
        work = self.calls[id].work
        assert work is not None
        return work
