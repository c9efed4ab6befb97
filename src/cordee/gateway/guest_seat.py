"""A guest's place in the roster, moved by what its minder says: its life, whether it may be asked, its load.

Its calls are forwarded as to any server reached by URL. What differs is that its load is known, so that several gateways see what the
others have there, and that it is known at once when it goes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from cordee.domain.replica import Capacity, Continuation, Gpu, Load, ReplicaKind
from cordee.flow.pool import Pool
from cordee.gateway.roster import TOKENS_PER_HTTP_CALL, Roster
from cordee.policy.route import Replica
from cordee.ports import Upstream

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Way:
    """How a guest is reached: what starts calls there, how they can go on, and what ends its connections."""

    upstream: Upstream
    continues: Continuation
    close: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Guest:
    """What was last said of one. `life` changes when another process stands there."""

    worker: str
    model: str
    life: int
    is_ready: bool
    capacity: Capacity
    load: Load
    gpus: tuple[Gpu, ...] = ()


class GuestSeat:
    """One guest of one gateway."""

    def __init__(self, roster: Roster) -> None:
        self._roster = roster
        self._pool: Pool | None = None
        self._replica: Replica | None = None
        self._way: Way | None = None
        self._life = 0

    def told(self, guest: Guest, reach: Callable[[], Way]) -> None:
        """`reach` opens the way to it, and is called once in each of its lives."""
        if guest.life != self._life:
            self._begin(guest, reach())
        replica, pool = self._replica, self._pool
        assert replica is not None
        assert pool is not None
        if guest.capacity != replica.capacity and guest.capacity.tokens:
            replica.capacity = guest.capacity
            replica.weigh()
        self._roster.gpus[replica.id] = guest.gpus
        if replica.ready != guest.is_ready:
            log.info("guest %s %s", replica.id, "takes calls" if guest.is_ready else "takes no new calls")
            replica.ready = guest.is_ready
            if guest.is_ready:
                pool.settle()
        pool.reported(replica, guest.load)

    def lost(self, cause: str) -> None:
        """Its minder has gone, and it with it: its connections say so to the calls that it had."""
        replica = self._replica
        if replica is None or not self._life:
            return
        self._life = 0
        log.warning("guest %s is down: %s", replica.id, cause)
        replica.ready = False
        self._roster.gpus.pop(replica.id, None)

    def _begin(self, guest: Guest, way: Way) -> None:
        if self._way is not None:
            self._way.close()
        self._way, self._life = way, guest.life
        pool = self._pool = self._roster.pool(guest.model)
        replica = self._replica
        if replica is None:
            capacity = guest.capacity
            if not capacity.tokens:
                capacity = Capacity(capacity.sequences, capacity.sequences * TOKENS_PER_HTTP_CALL)
            replica = self._replica = self._roster.put(
                Replica(
                    guest.worker,
                    ReplicaKind.HTTP,
                    capacity,
                    fingerprint="",
                    breaker=self._roster.breaker(),
                    continues=way.continues,
                )
            )
            pool.join(replica, way.upstream)
        else:
            replica.reconnected()
            pool.upstreams[replica.id] = way.upstream
        log.info("guest %s serves model %s", guest.worker, guest.model)
