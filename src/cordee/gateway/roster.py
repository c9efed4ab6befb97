"""Who is alive, for which model: pools come into being when a replica says what it serves, and replicas come and go."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from cordee.domain.call import Task
from cordee.domain.replica import Capacity, Continuation, EngineFigures, Gpu, Load, ReplicaKind
from cordee.flow.pool import Pool
from cordee.flow.ward import Ward
from cordee.gateway.health.canary import Canary
from cordee.gateway.health.visit import WorkerLink
from cordee.gateway.openings import UNREAD
from cordee.gateway.routes import Routes
from cordee.gateway.summons import Summons
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.hedge import Hedge, HedgeRules
from cordee.policy.quarantine import Quarantine, QuarantineRules
from cordee.policy.retry import RetryBudget, RetryRules
from cordee.policy.route import Replica, Router
from cordee.policy.seats import SeatRules, Seats
from cordee.ports import Clock, Upstream

log = logging.getLogger(__name__)
TOKENS_PER_HTTP_CALL = 4096  # what a call at another server is taken to occupy, for comparing loads only


@dataclass(frozen=True, slots=True)
class PoolRules:
    """What every pool of this gateway is made with."""

    seats: SeatRules
    attempts: AttemptRules
    retry: RetryRules
    breaker: BreakerRules
    http_calls_max: int
    routes: Routes = field(default_factory=Routes)
    hedge: HedgeRules = field(default_factory=HedgeRules)
    quarantine: QuarantineRules = field(default_factory=QuarantineRules)


class Roster:
    """All pools of a gateway, by model name."""

    def __init__(self, rules: PoolRules, clock: Clock, rng: Random) -> None:
        self.pools: dict[str, Pool] = {}
        self.contexts: dict[str, int] = {}
        self.sizes: dict[str, int] = {}  # of vocabularies, as workers say them
        self.adapters: dict[str, tuple[str, ...]] = {}  # LoRA, by the model that they are laid over
        self.gpus: dict[str, tuple[Gpu, ...]] = {}  # by replica, of those that are there
        self.figures: dict[str, EngineFigures] = {}  # likewise, of workers
        self.quarantine = Quarantine(rules.quarantine)
        self.summons: Summons | None = None  # where somebody can load models
        self._rules = rules
        self._clock = clock
        self._rng = rng

    @property
    def is_ready(self) -> bool:
        return any(pool.is_ready for pool in self.pools.values())

    def split(self, name: str) -> tuple[str, str]:
        """The model and the adapter that `MODEL:ADAPTER` stands for; (name, "") where there is no such adapter."""
        base, _, adapter = name.rpartition(":")
        return (base, adapter) if adapter in self.adapters.get(base, ()) else (name, "")

    def pool(self, model: str) -> Pool:
        """The pool of a model, made if it is new."""
        found = self.pools.get(model)
        if found is None:
            rules = self._rules
            router = Router(rules.routes.of(model), rules.routes.outliers)
            budget = RetryBudget(rules.retry, self._clock.now())
            found = Pool(Seats(model, rules.seats, router), budget, rules.attempts, self._clock, self._rng)
            found.hedge = Hedge(rules.hedge) if rules.hedge.enabled else None
            found.ward = Ward(found, self.quarantine)
            if self.summons is not None:
                self.summons.attach(found)
            self.pools[model] = found
        return found

    def follow(self, rules: PoolRules) -> None:
        """From now on by these, in every pool and for every replica."""
        self._rules = rules
        self.quarantine.rules = rules.quarantine
        for pool in self.pools.values():
            if not rules.hedge.enabled:
                pool.hedge = None
            elif pool.hedge is None:
                pool.hedge = Hedge(rules.hedge)
            else:
                pool.hedge.follow(rules.hedge)
            pool.seats.rules = rules.seats
            pool.rules = rules.attempts
            pool.budget.follow(rules.retry)
            for replica in pool.seats.replicas:
                replica.breaker.follow(rules.breaker)
                rules.routes.put(replica)
            pool.seats.router.follow(rules.routes.of(pool.model), rules.routes.outliers)

    def put(self, replica: Replica) -> Replica:
        """A new replica, with the weight and region that the configuration gives it."""
        return self._rules.routes.put(replica)

    def breaker(self) -> Breaker:
        return Breaker(self._rules.breaker)

    def serves(
        self, server: str, models: list[str], upstream: Upstream, breaker: Breaker, *, calls_max: int = 0,
        continues: Continuation = Continuation.RESTART, weight: float = 1.0, region: str = "",
    ) -> None:  # fmt: skip
        """A server reached by URL says which models it has. Those it no longer has are not asked of it any more."""
        calls_max = calls_max or self._rules.http_calls_max
        for model in models:
            pool = self.pool(model)
            known = next((replica for replica in pool.seats.replicas if replica.id == server), None)
            if known is not None:
                known.continues = continues  # another kind of server may stand there now
                continue
            capacity = Capacity(calls_max, calls_max * TOKENS_PER_HTTP_CALL)
            replica = self.put(
                Replica(
                    server, ReplicaKind.HTTP, capacity, fingerprint="", breaker=breaker, weight=weight, region=region,
                    continues=continues,
                )
            )  # fmt: skip
            log.info("replica %s serves model %s", server, model)
            pool.join(replica, upstream)
        for model, pool in self.pools.items():
            for replica in pool.seats.replicas:
                if replica.id == server and replica.ready != (model in models):
                    replica.ready = model in models
                    pool.settle()


@dataclass(frozen=True, slots=True)
class Card:
    """What a worker says of itself when its link comes up."""

    worker: str
    model: str
    fingerprint: str
    context: int
    vocabulary: int
    exact: bool
    capacity: Capacity
    tasks: tuple[str, ...] = (Task.GENERATE.value,)
    adapters: tuple[str, ...] = ()
    preempts: bool = False


class WorkerSeat:
    """One worker's place in the roster, moved by what its link says. `vocabulary_of`: how large the vocabulary is that this
    gateway would read the worker's tokens with; UNREAD where it has yet to read it, None where it has none for the model."""

    def __init__(
        self,
        roster: Roster,
        upstream: WorkerLink,
        late: Callable[[int], None],
        vocabulary_of: Callable[[str], int | None],
        canary: Canary | None = None,
    ) -> None:
        self._roster = roster
        self._upstream = upstream
        self._late = late
        self._vocabulary_of = vocabulary_of
        self._canary = canary
        self._is_heard = False
        self._is_trusted = canary is None
        self._pool: Pool | None = None
        self._replica: Replica | None = None

    def is_up(self, card: Card) -> bool:
        """False: this gateway cannot use it."""
        size = self._vocabulary_of(card.model)
        if size not in (card.vocabulary, UNREAD):
            log.error(
                "worker %s serves model %s with %d tokens, this gateway knows %s: start both with the same --model",
                card.worker, card.model, card.vocabulary, "none" if size is None else size,
            )  # fmt: skip
            return False
        pool = self._pool = self._roster.pool(card.model)
        replica = self._replica
        if replica is None or replica.fingerprint != card.fingerprint or replica.id != card.worker:
            if replica is not None:
                pool.seats.router.leave(replica)
            breaker = self._roster.breaker()
            replica = self._replica = self._roster.put(
                Replica(card.worker, ReplicaKind.LINK, card.capacity, card.fingerprint, breaker, exact=card.exact)
            )
            pool.join(replica, self._upstream)
        else:
            replica.reconnected(card.capacity)
        replica.preempts = card.preempts
        if self._canary is not None:  # first: until it has answered the worker is not used
            self._canary.joined(replica, card.model, card.vocabulary, self._upstream, self, Task(card.tasks[0]))
        self._hear(True)
        self._roster.contexts[card.model] = card.context
        self._roster.sizes[card.model] = card.vocabulary
        if card.adapters or card.model in self._roster.adapters:
            self._roster.adapters[card.model] = card.adapters
        log.info("worker %s is up with model %s", card.worker, card.model)
        return True

    def trust(self, is_trusted: bool) -> None:
        """Whether its answers can be believed, as far as its canary knows."""
        self._is_trusted = is_trusted
        self._show()

    def load(self, load: Load) -> None:
        if self._canary is not None:
            self._canary.load(load)
        if self._pool is not None and self._replica is not None:
            self._pool.reported(self._replica, load)

    def gpus(self, found: tuple[Gpu, ...]) -> None:
        if self._replica is not None:
            self._roster.gpus[self._replica.id] = found

    def figures(self, found: EngineFigures) -> None:
        if self._replica is not None:
            self._roster.figures[self._replica.id] = found

    def suspected(self, silence_s: float) -> None:
        if self._replica is not None:
            self._hear(False)
            log.warning("worker %s is suspected: silent for %.0f ms", self._replica.id, silence_s * 1000)

    def recovered(self) -> None:
        if self._replica is not None:
            log.info("worker %s is heard again", self._replica.id)
            self._hear(True)

    def draining(self) -> None:
        if self._replica is not None:
            self._hear(False)
            log.info("worker %s is draining", self._replica.id)

    def down(self, cause: str) -> None:
        if self._replica is not None:
            self._hear(False)
            if self._canary is not None:
                self._canary.left()
            self._roster.gpus.pop(self._replica.id, None)
            self._roster.figures.pop(self._replica.id, None)
            log.warning("worker %s is down: %s", self._replica.id, cause)

    def late(self, rows: int) -> None:
        self._late(rows)

    def _hear(self, is_heard: bool) -> None:
        """Whether it is there and takes calls, as far as its link knows."""
        self._is_heard = is_heard
        self._show()

    def _show(self) -> None:
        replica, ready = self._replica, self._is_heard and self._is_trusted
        if replica is not None and replica.ready != ready:
            pool = self._pool
            if ready and pool is not None and pool.summons is not None and not pool.has_local:
                pool.seats.anew(pool.clock.now())
            replica.ready = ready
            if ready and pool is not None:
                pool.settle()
