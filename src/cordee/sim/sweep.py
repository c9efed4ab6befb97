"""How long calls wait for a place, and how evenly they lie, when several gateways choose from load reports that are not fresh.

Gateways share workers. Each of them routes with the production code on what it was told last and what it has sent since; a call that
finds no room waits in its gateway, one that a stale view sent to a full worker waits there. The wait is both. A worker reports to
everybody once in `age_s`, so what a gateway knows is up to that old; at 0 it reports whatever happens at once.

The herd is one of the cases: every gateway taking the exact minimum of what it sees.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random

from cordee.domain.replica import Capacity, Load, ReplicaKind
from cordee.memory.clock import VirtualClock
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.route import Replica, Router, RouteRules, Size, Strategy, Want

REGIONS = ("east", "west")
NEIGHBOURS = {"east": ("west",), "west": ("east",)}
SAMPLE_S = 0.05  # between two looks at how evenly calls lie
WARM_UP = 0.1  # share of the calls that come before anything is measured


@dataclass(frozen=True, slots=True)
class Case:
    """`exact`: each gateway takes the exact minimum of what it sees, as if it were alone. Service times are exponential with mean
    `service_s`; calls begin with one of `prefixes` prompts."""

    gateways: int
    age_s: float
    strategy: Strategy = Strategy.LEAST_LOAD
    exact: bool = False
    workers: int = 8
    slots: int = 8
    load: float = 0.8
    service_s: float = 1.0
    calls: int = 8000
    prefixes: int = 64


@dataclass(frozen=True, slots=True)
class Figures:
    """Waits in seconds; `spread` is the most calls at one worker over the mean of all, averaged over time."""

    p50_s: float
    p99_s: float
    mean_s: float
    spread: float


@dataclass(slots=True)
class _Call:
    gateway: _Gateway
    want: Want
    service_s: float
    arrived_s: float


class _Worker:
    """Serves in order of arrival, so many at once."""

    def __init__(self, sweep: Sweep, number: int) -> None:
        self._sweep = sweep
        self._number = number
        self._running = 0
        self._waiting: deque[_Call] = deque()
        self._seen = [0] * sweep.case.gateways

    @property
    def here(self) -> int:
        return self._running + len(self._waiting)

    def take(self, call: _Call) -> None:
        self._seen[call.gateway.number] += 1
        if self._running < self._sweep.case.slots:
            self._start(call)
        else:
            self._waiting.append(call)
        self._changed()

    def report(self) -> None:
        gateways = self._sweep.gateways
        first = self._sweep.rng.randrange(len(gateways))  # who hears it first takes the place that became free
        for gateway in gateways[first:] + gateways[:first]:
            load = Load(self._running, len(self._waiting), self.here * SIZE.tokens, self._seen[gateway.number])
            gateway.reported(self._number, load)

    def report_for_ever(self) -> None:
        self.report()
        self._sweep.clock.call_later(self._sweep.case.age_s, self.report_for_ever)

    def _start(self, call: _Call) -> None:
        self._running += 1
        self._sweep.started(call)
        self._sweep.clock.call_later(call.service_s, lambda: self._end(call))

    def _end(self, call: _Call) -> None:
        self._running -= 1
        if self._waiting:
            self._start(self._waiting.popleft())
        call.gateway.left(self._number)
        self._changed()

    def _changed(self) -> None:
        if self._sweep.case.age_s == 0:
            self.report()


class _Gateway:
    """One router with its own view of all workers, and those for whom it saw no room."""

    def __init__(self, sweep: Sweep, number: int) -> None:
        case = sweep.case
        self.number = number
        self._sweep = sweep
        self._alone = case.exact or case.gateways == 1
        self._router = Router(
            RouteRules(case.strategy, regions=NEIGHBOURS, gateways=1 if self._alone else case.gateways)
        )
        for at in range(case.workers):
            replica = Replica(
                f"worker-{at}", ReplicaKind.LINK, Capacity(case.slots, case.slots * SIZE.tokens), "f",
                Breaker(BreakerRules()), region=REGIONS[at % len(REGIONS)],
            )  # fmt: skip
            replica.ready = True
            self._router.replicas.append(replica)
        self._queue: deque[_Call] = deque()

    def arrive(self, call: _Call) -> None:
        if self._queue or not self._seat(call):
            self._queue.append(call)

    def reported(self, at: int, load: Load) -> None:
        self._router.replicas[at].reported(load)
        self._serve_queue()

    def left(self, at: int) -> None:
        self._router.replicas[at].left(SIZE)
        self._serve_queue()

    def _serve_queue(self) -> None:
        while self._queue and self._seat(self._queue[0]):
            self._queue.popleft()

    def _seat(self, call: _Call) -> bool:
        found = self._router.ask(self._sweep.clock.now(), self._sweep.rng, call.want, alone=self._alone)
        if found is None:
            return False
        found.began(SIZE)
        worker = self._sweep.workers[self._router.replicas.index(found)]
        self._sweep.clock.call_later(0.0, lambda: worker.take(call))
        return True


SIZE = Size(1, 512)


class Sweep:
    """One case; a function of its seed."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case = case
        self.clock = VirtualClock()
        self.rng = Random(seed)  # noqa: S311  # a case that can be repeated
        self._arrivals = Random(seed + 1)  # noqa: S311  # the same calls whatever is decided about them
        self.gateways = [_Gateway(self, number) for number in range(case.gateways)]
        self.workers = [_Worker(self, number) for number in range(case.workers)]
        self._waits: list[float] = []
        self._spreads: list[float] = []
        self._arrived = 0

    def run(self) -> Figures:
        case, now = self.case, self.clock.now
        if case.age_s:
            for number, worker in enumerate(self.workers):
                self.clock.call_later(case.age_s * number / case.workers, worker.report_for_ever)
        self.clock.call_later(0.0, self._arrive)
        self.clock.call_later(SAMPLE_S, self._look)
        while len(self._waits) < case.calls:
            self.clock.run(now() + case.service_s)
        waits = sorted(self._waits[int(case.calls * WARM_UP) :])
        spreads = self._spreads[int(len(self._spreads) * WARM_UP) :]
        return Figures(
            waits[len(waits) // 2],
            waits[int(len(waits) * 0.99)],
            sum(waits) / len(waits),
            sum(spreads) / len(spreads),
        )

    def started(self, call: _Call) -> None:
        self._waits.append(self.clock.now() - call.arrived_s)

    def _arrive(self) -> None:
        case, rng = self.case, self._arrivals
        gateway = self.gateways[rng.randrange(case.gateways)]
        service_s = rng.expovariate(1 / case.service_s)
        prefix = 1 + int(case.prefixes * rng.random() ** 2)  # some prompts are more common than others
        call = _Call(gateway, Want(SIZE, affinity=prefix, region=rng.choice(REGIONS)), service_s, self.clock.now())
        gateway.arrive(call)
        self._arrived += 1
        if self._arrived < case.calls:
            rate = case.load * case.workers * case.slots / case.service_s
            self.clock.call_later(rng.expovariate(rate), self._arrive)

    def _look(self) -> None:
        here = [worker.here for worker in self.workers]
        if self._arrived < self.case.calls:
            self._spreads.append(max(here) * len(here) / max(1, sum(here)))
            self.clock.call_later(SAMPLE_S, self._look)


def sweep(case: Case, seed: int = 1) -> Figures:
    """Runs one case."""
    return Sweep(case, seed).run()
