"""A guest's place in a gateway's roster, as its minder's words move it."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from cordee.domain.replica import Capacity, Continuation, Gpu, Load
from cordee.gateway.guest_seat import Guest, GuestSeat, Way
from cordee.gateway.roster import TOKENS_PER_HTTP_CALL, PoolRules, Roster
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import BreakerRules
from cordee.policy.replica import Replica, Size
from cordee.policy.retry import RetryRules
from cordee.policy.seats import SeatRules

GUEST = Guest("worker-1.m", "m", 1, is_ready=False, capacity=Capacity(4, 0), load=Load(), gpus=(Gpu(0, "x"),))


class Clock:
    def now(self) -> float:
        return 0.0

    def call_later(self, delay_s: float, callback: Any) -> Any: ...


class House:
    def __init__(self) -> None:
        rules = PoolRules(SeatRules(), AttemptRules(), RetryRules(), BreakerRules(), http_calls_max=8)
        self.roster = Roster(rules, Clock(), Random(1))
        self.seat = GuestSeat(self.roster)
        self.opened: list[object] = []
        self.closed: list[object] = []

    def told(self, guest: Guest) -> Replica:
        def reach() -> Way:
            upstream: Any = object()
            self.opened.append(upstream)
            return Way(upstream, Continuation.TOKENS, lambda: self.closed.append(upstream))

        self.seat.told(guest, reach)
        return self.roster.pools["m"].seats.replicas[0]


def test_a_guest_is_a_replica_that_may_be_asked_when_it_is_ready():
    house = House()
    replica = house.told(GUEST)
    assert not replica.ready
    assert replica.continues is Continuation.TOKENS
    assert replica.capacity == Capacity(4, 4 * TOKENS_PER_HTTP_CALL)
    assert house.told(replace(GUEST, is_ready=True)).ready
    assert len(house.opened) == 1
    assert not house.told(GUEST).ready


def test_its_capacity_is_what_it_says_once_it_knows_it():
    house = House()
    house.told(GUEST)
    assert house.told(replace(GUEST, capacity=Capacity(4, 5000))).capacity == Capacity(4, 5000)


def test_what_others_have_there_is_seen_and_what_is_ours_is_never_forgotten():
    house = House()
    house.told(replace(GUEST, is_ready=True))
    replica = house.told(replace(GUEST, is_ready=True, load=Load(running=2, waiting=1)))
    assert replica.used == 3
    for _ in range(2):
        replica.began(Size(1, 10))
    assert replica.used == 5
    assert house.told(replace(GUEST, is_ready=True, load=Load())).used == 2, "sent, and not in its figures yet"


def test_a_new_life_is_reached_anew_by_the_same_replica():
    house = House()
    first = house.told(replace(GUEST, is_ready=True))
    house.seat.lost("its process has ended")
    assert not first.ready
    assert house.roster.gpus == {}
    second = house.told(replace(GUEST, life=2, is_ready=True))
    assert second is first
    assert second.ready
    assert house.closed == house.opened[:1]
    assert house.roster.pools["m"].upstreams[second.id] is house.opened[1]
    assert house.roster.gpus == {"worker-1.m": (Gpu(0, "x"),)}


def test_that_nobody_is_there_yet_is_no_news():
    house = House()
    house.seat.lost("no such file")
    assert house.roster.pools == {}
