"""Who is alive, for which model: pools come into being when a replica says what it serves, and replicas come and go."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from cordee.domain.replica import Capacity, Load, ReplicaKind
from cordee.flow.pool import Pool
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.retry import RetryBudget, RetryRules
from cordee.policy.route import Replica
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


class Roster:
    """All pools of a gateway, by model name."""

    def __init__(self, rules: PoolRules, clock: Clock, rng: Random) -> None:
        self.pools: dict[str, Pool] = {}
        self.contexts: dict[str, int] = {}
        self._rules = rules
        self._clock = clock
        self._rng = rng

    @property
    def is_ready(self) -> bool:
        return any(pool.is_ready for pool in self.pools.values())

    def pool(self, model: str) -> Pool:
        """The pool of a model, made if it is new."""
        found = self.pools.get(model)
        if found is None:
            rules = self._rules
            budget = RetryBudget(rules.retry, self._clock.now())
            found = Pool(Seats(model, rules.seats), budget, rules.attempts, self._clock, self._rng)
            self.pools[model] = found
        return found

    def breaker(self) -> Breaker:
        return Breaker(self._rules.breaker)

    def serves(self, server: str, models: list[str], upstream: Upstream, breaker: Breaker) -> None:
        """A server reached by URL says which models it has. Those it no longer has are not asked of it any more."""
        for model in models:
            pool = self.pool(model)
            if any(replica.id == server for replica in pool.seats.replicas):
                continue
            capacity = Capacity(self._rules.http_calls_max, self._rules.http_calls_max * TOKENS_PER_HTTP_CALL)
            replica = Replica(server, ReplicaKind.HTTP, capacity, fingerprint="", breaker=breaker)
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


class WorkerSeat:
    """One worker's place in the roster, moved by what its link says. `vocabulary_of`: how large the vocabulary is that this
    gateway would read the worker's tokens with; None where it has none for the model."""

    def __init__(
        self,
        roster: Roster,
        upstream: Upstream,
        late: Callable[[int], None],
        vocabulary_of: Callable[[str], int | None],
    ) -> None:
        self._roster = roster
        self._upstream = upstream
        self._late = late
        self._vocabulary_of = vocabulary_of
        self._pool: Pool | None = None
        self._replica: Replica | None = None

    def is_up(self, card: Card) -> bool:
        """False: this gateway cannot use it."""
        size = self._vocabulary_of(card.model)
        if size != card.vocabulary:
            log.error(
                "worker %s serves model %s with %d tokens, this gateway knows %s: start both with the same --model",
                card.worker, card.model, card.vocabulary, "none" if size is None else size,
            )  # fmt: skip
            return False
        pool = self._pool = self._roster.pool(card.model)
        replica = self._replica
        if replica is None or replica.fingerprint != card.fingerprint or replica.id != card.worker:
            if replica is not None:
                pool.seats.replicas.remove(replica)
            replica = self._replica = Replica(
                card.worker, ReplicaKind.LINK, card.capacity, card.fingerprint, self._roster.breaker(), exact=card.exact
            )
            replica.ready = True
            pool.join(replica, self._upstream)
        else:
            replica.capacity = card.capacity
            replica.reconnected()
            replica.ready = True
            pool.settle()
        self._roster.contexts[card.model] = card.context
        log.info("worker %s is up with model %s", card.worker, card.model)
        return True

    def load(self, load: Load) -> None:
        if self._pool is not None and self._replica is not None:
            self._pool.reported(self._replica, load)

    def suspected(self, silence_s: float) -> None:
        if self._replica is not None:
            self._replica.ready = False
            log.warning("worker %s is suspected: silent for %.0f ms", self._replica.id, silence_s * 1000)

    def recovered(self) -> None:
        if self._replica is not None and self._pool is not None:
            self._replica.ready = True
            log.info("worker %s is heard again", self._replica.id)
            self._pool.settle()

    def draining(self) -> None:
        if self._replica is not None:
            self._replica.ready = False
            log.info("worker %s is draining", self._replica.id)

    def down(self, cause: str) -> None:
        if self._replica is not None:
            self._replica.ready = False
            log.warning("worker %s is down: %s", self._replica.id, cause)

    def late(self, rows: int) -> None:
        self._late(rows)
