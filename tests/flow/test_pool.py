"""What it costs a pool that one of its replicas is out, counted in looks at those who wait."""

from __future__ import annotations

from random import Random

from cordee.domain.call import Priority
from cordee.domain.replica import Capacity, ReplicaKind
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.memory.clock import VirtualClock
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.retry import RetryBudget, RetryRules
from cordee.policy.route import Replica, Size, Want
from cordee.policy.seats import Granted, Queued, Seated, SeatRules, Seats, Ticket

CALLS = 100


class Looks(Seats):
    """Counts how often everybody who waits was looked at."""

    looks = 0

    def due(self, now: float, rng: Random) -> list[Granted]:
        self.looks += 1
        return super().due(now, rng)


def pool_of(seats: Seats) -> tuple[Pool, list[Replica]]:
    pool = Pool(seats, RetryBudget(RetryRules(), 0.0), AttemptRules(), VirtualClock(), Random(1))
    replicas = [
        Replica(f"w{n}", ReplicaKind.HTTP, Capacity(CALLS, 10_000), "f", Breaker(BreakerRules())) for n in (1, 2)
    ]
    for replica in replicas:
        pool.seats.replicas.append(replica)
    return pool, replicas


def test_the_calls_of_a_replica_that_is_out_wait_without_looking_at_each_other() -> None:
    seats = Looks("m", SeatRules())
    pool, (first, second) = pool_of(seats)
    first.ready = True
    size = Size(1, 10)
    for number in range(CALLS):
        ticket = Ticket(str(number), Priority.STANDARD, Want(size), 100.0)
        assert isinstance(pool.ask(ticket, Mailbox[Fact]()), Seated)
    first.ready = False
    for number in range(CALLS):
        pool.leave(first, Ticket(str(number), Priority.STANDARD, Want(size), 100.0))
        again = Ticket(str(number), Priority.STANDARD, Want(size, anyway=True, avoid="w1"), 100.0, accepted=True)
        assert isinstance(pool.ask(again, Mailbox[Fact]()), Queued)
    assert seats.looks == 0
    second.ready = True
    pool.settle()
    assert second.used == CALLS
