"""What it costs a pool that one of its replicas is out, counted in looks at those who wait."""

from __future__ import annotations

from random import Random
from typing import Any

from cordee.domain.call import Call, Priority
from cordee.domain.replica import Capacity, ReplicaKind
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import PLAIN_MAX, Pool
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


def call_of(size: int, **more: Any) -> Call:
    return Call("c", "m", "t", "/", False, 0.0, body=b" " * size, **more)


def test_calls_that_ask_for_nothing_but_room_share_what_they_want():
    pool, _ = pool_of(Seats("m", SeatRules()))
    assert pool.want(call_of(400)) is pool.want(call_of(400))
    assert pool.want(call_of(400)) == Want(Size(1, call_of(400).cost, yields=1))
    urgent = pool.want(call_of(400, priority=Priority.INTERACTIVE))
    assert urgent == Want(Size(1, call_of(400).cost)), "those of the highest class make room for nobody"
    assert pool.want(call_of(800)).size.tokens == call_of(800).cost


def test_a_call_with_wishes_of_its_own_shares_nothing():
    pool, _ = pool_of(Seats("m", SeatRules()))
    want = pool.want(call_of(400, attach="w1", affinity=7, region="eu"))
    assert (want.prefer, want.affinity, want.region) == ("w1", 7, "eu")
    assert pool.want(call_of(400)) == Want(Size(1, call_of(400).cost, yields=1))


def test_sizes_without_end_are_not_all_remembered():
    pool, _ = pool_of(Seats("m", SeatRules()))
    for n in range(PLAIN_MAX + 10):
        pool.want(call_of(4 * n))
    assert len(pool._plain) <= PLAIN_MAX
