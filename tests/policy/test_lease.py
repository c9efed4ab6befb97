"""Several gateways over one store, round by round: nobody goes beyond the stated bound, whatever happens to the store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cordee.domain.caller import Period
from cordee.memory.limits import MemoryLimits
from cordee.policy.budget import Calendar, Window
from cordee.policy.lease import Kind, Leased, LeaseRules
from cordee.policy.rate import AtOnce, Bucket, Meter

DAY_S = 86_400.0


class World:
    """`gateways` that lease one limit."""

    def __init__(self, kind: Kind, limit: int, gateways: int, slice_share: float = 0.05) -> None:
        self.now = 0.0
        self.store = MemoryLimits(lambda: self.now)
        self.rules = LeaseRules(gateways, slice_share)
        calendar = Calendar(0.0, DAY_S)
        share = max(1.0, limit / gateways)
        makes: dict[Kind, Callable[[], Meter]] = {
            Kind.WINDOW: lambda: Window(0.0, share, Period.DAY, calendar),
            Kind.BUCKET: lambda: Bucket(0.0, share, 1.0),
            Kind.HELD: lambda: AtOnce(float(int(share))),
        }
        self.meters = [Leased(0.0, "m", kind, makes[kind](), limit, self.rules) for _ in range(gateways)]
        self.spent = 0

    def ask(self, gateway: int, amount: int = 1) -> bool:
        meter = self.meters[gateway]
        if meter.lacks_s(self.now, amount) > 0:
            return False
        meter.take(self.now, amount)
        self.spent += amount
        return True

    def round(self, gateway: int) -> None:
        meter = self.meters[gateway]
        asked = meter.due(self.now)
        if asked is None:
            return
        if self.store.is_away:
            meter.lost(self.now)
            return
        (grant,) = asyncio.run(self.store.lease(f"g{gateway}", [asked]))
        meter.granted(self.now, asked, grant)

    def rounds(self, count: int = 1, gap_s: float = 0.1) -> None:
        for _ in range(count):
            self.now += gap_s
            for gateway in range(len(self.meters)):
                self.round(gateway)


def test_one_gateway_alone_is_exact_even_at_once():
    world = World(Kind.WINDOW, 100, 1)
    assert sum(world.ask(0) for _ in range(150)) == 100
    world.rounds(3)
    assert not world.ask(0)


def test_one_gateway_goes_on_where_it_was_before_its_restart():
    world = World(Kind.WINDOW, 100, 1)
    for _ in range(60):
        world.ask(0)
    world.rounds(2)
    asked = world.meters[0].back(world.now)
    assert asked is not None
    asyncio.run(world.store.lease("g0", [asked]))
    world.meters = [
        Leased(world.now, "m", Kind.WINDOW, Window(0.0, 100, Period.DAY, Calendar(0.0, DAY_S)), 100, world.rules)
    ]
    world.ask(0)
    world.rounds(2)
    for _ in range(200):
        world.ask(0)
        world.rounds(1)
    assert world.spent == 100


@pytest.mark.parametrize("gateways", [2, 4, 8])
def test_many_overshoot_by_no_more_than_a_slice_each(gateways: int) -> None:
    world = World(Kind.WINDOW, 1000, gateways)
    for turn in range(3000):
        world.ask(turn % gateways)
        if turn % 20 == 19:
            world.rounds()
    assert 1000 - gateways * 50 <= world.spent <= 1000 + gateways * 50


def test_before_the_store_has_answered_a_gateway_spends_no_more_than_a_slice():
    world = World(Kind.WINDOW, 1000, 4)
    assert sum(world.ask(0) for _ in range(500)) == 50


def test_a_call_larger_than_a_slice_passes_where_the_limit_has_room():
    world = World(Kind.WINDOW, 10_000, 4)
    assert world.ask(0, 4000)
    assert not world.ask(0, 4000), "its debt is not paid yet"
    world.rounds()
    assert world.ask(0, 4000)


def test_everything_is_there_for_one_gateway_when_the_others_are_idle():
    world = World(Kind.WINDOW, 1000, 4)
    for _ in range(400):
        for _ in range(5):
            world.ask(0)
        world.rounds()
    assert world.spent == pytest.approx(1000, abs=50)


def test_what_is_not_used_goes_back():
    world = World(Kind.WINDOW, 1000, 2)
    for _ in range(5):
        world.ask(0)
        world.rounds()
    world.rounds(100)
    assert world.store._used["m:1970010200"] == 5
    assert world.meters[0].is_idle(world.now)


def test_with_the_store_away_each_gateway_keeps_its_share():
    world = World(Kind.WINDOW, 1000, 4)
    world.store.is_away = True
    for gateway in range(4):
        world.ask(gateway)
        world.round(gateway)
    for _ in range(1000):
        for gateway in range(4):
            world.ask(gateway)
    assert world.spent == 1000


def test_what_was_spent_while_the_store_was_away_is_accounted_for_afterwards():
    world = World(Kind.WINDOW, 1000, 2)
    world.store.is_away = True
    for _ in range(600):
        world.ask(0)
        world.round(0)
    assert world.spent == 500
    world.store.is_away = False
    world.rounds(30)
    for _ in range(1000):
        world.ask(1)
        world.rounds(1, gap_s=0.01)
    assert world.spent <= 1000 + 2 * 50


def test_a_rate_is_not_paid_for_twice_after_the_store_was_away():
    world = World(Kind.BUCKET, 600, 2)
    world.store.is_away = True
    for _ in range(100):
        world.ask(0)
        world.rounds(1, gap_s=1.0)
    world.store.is_away = False
    world.rounds(10)
    assert world.ask(0)


def test_calls_at_once_are_shared_and_come_back():
    world = World(Kind.HELD, 10, 2)
    taken = []
    for turn in range(40):
        if world.ask(turn % 2):
            taken.append(turn % 2)
        world.rounds()
    assert 9 <= len(taken) <= 12
    for gateway in taken:
        world.meters[gateway].give(world.now, 1)
    world.rounds(100)
    assert all(meter.is_idle(world.now) for meter in world.meters)
    assert world.store._held == {"m": {}}


def test_what_a_gateway_held_before_the_store_was_away_is_neither_lost_nor_counted_twice():
    world = World(Kind.HELD, 10, 2)
    for _ in range(4):
        world.ask(0)
        world.rounds()
    world.store.is_away = True
    world.rounds(10)
    assert world.ask(0)
    assert not world.ask(0), "its share is five"
    world.store.is_away = False
    world.rounds(2)
    assert world.store._held["m"]["g0"][0] >= 5


@settings(max_examples=60)
@given(
    st.sampled_from([Kind.WINDOW, Kind.BUCKET]),
    st.integers(1, 6),
    st.integers(10, 400),
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 10), st.sampled_from(["ask", "round"])), max_size=250),
)
def test_the_bound_holds_in_any_order_of_calls_and_rounds(kind, gateways, limit, steps):
    world = World(kind, limit, gateways)
    largest = max((amount for _, amount, _ in steps), default=1)
    for gateway, amount, what in steps:
        if what == "ask":
            world.ask(gateway % gateways, amount)
        else:
            world.round(gateway % gateways)
    slice_max = 0 if gateways == 1 else max(world.meters[0]._slice_max, min(largest, limit))
    assert world.spent <= limit + gateways * slice_max
    if gateways == 1 and kind is Kind.WINDOW:
        assert world.spent <= limit
