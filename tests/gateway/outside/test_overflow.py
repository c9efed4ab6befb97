"""The door out: only the excess, the least sensitive first, never what must stay, and every call paid for once."""

from __future__ import annotations

from array import array
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from cordee.adapters.upstreams.cloud_request import Rules
from cordee.adapters.upstreams.providers import ALIBABA
from cordee.domain.call import Call, Priority, Sensitivity, Work
from cordee.domain.outcome import End, Outcome, Refusal, Why
from cordee.domain.replica import Capacity, Continuation, Load, ReplicaKind, Signals
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.gateway.outside.overflow import Lane, LaneAccount, Outside
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.overflow import Overflow, OverflowRules, Signal
from cordee.policy.replica import Replica, Size, Want
from cordee.policy.retry import RetryBudget, RetryRules
from cordee.policy.seats import Queued, Seated, SeatRules, Seats, Ticket
from cordee.policy.spend import Price, Spend
from tests.flow.doubles import Clock

DAY_S = 86_400.0
BODY = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"max_tokens":10}'


class House:
    """One pool with a worker of one slot, and providers."""

    def __init__(self, cap: float = 1000.0, calls_max: int = 8, clouds: int = 1, price: float = 1000.0) -> None:
        self.clock = Clock()
        self.host = Signals(10, 10)
        self.utc_s = 20_000 * DAY_S
        self.written: list[tuple[int, float]] = []
        rng = Random(1)
        self.pool = Pool(
            Seats("m", SeatRules(waiting_max=100)), RetryBudget(RetryRules(), 0.0), AttemptRules(), self.clock, rng
        )
        self.outside = Outside(
            Overflow(OverflowRules()), 10.0, Spend(cap, 20_000), "EUR", {"m": self.pool}, self.clock, lambda: self.host,
            lambda: self.utc_s, lambda day, amount: self.written.append((day, amount)),
        )  # fmt: skip
        self.worker = Replica("w", ReplicaKind.LINK, Capacity(1, 100_000), "fp", Breaker(BreakerRules()))
        self.worker.ready = True
        self.upstream: Any = SimpleNamespace()
        self.pool.join(self.worker, self.upstream)
        for number in range(clouds):
            cloud: Any = SimpleNamespace(id=f"cloud/{number}", rules=Rules(ALIBABA, {"m": "q"}, 100))
            replica = Replica(
                cloud.id, ReplicaKind.CLOUD, Capacity(calls_max, 10**6), "", Breaker(BreakerRules()),
                continues=Continuation.TEXT,
            )  # fmt: skip
            replica.ready = True
            lane = Lane(cloud, replica, Price(price, price), RetryBudget(RetryRules(), 0.0))
            self.outside.lanes.append(lane)
            self.pool.join_cloud(replica, cloud)
        self.pool.gate = self.outside
        self.told: dict[str, list[Fact]] = {}

    def full(self) -> None:
        self.host = Signals(99, 10)
        self.outside.tick()

    def ask(self, id: str, **more: Any) -> Seated | Queued | Refusal:
        call = Call(
            id,
            "m",
            "t",
            "/v1/chat/completions",
            True,
            self.clock.now(),
            work=Work(array("I", [1]), 10),
            body=BODY,
            **more,
        )
        ticket = Ticket(id, Priority.STANDARD, Want(Size(1, 11)), self.clock.now() + 30, "t")
        box: Mailbox[Fact] = Mailbox()
        heard = self.told.setdefault(id, [])

        async def listen() -> None:
            while True:
                heard.append(await box.next())

        box.run(listen())
        return self.pool.ask(ticket, box, call)

    def where(self, id: str, **more: Any) -> str:
        answer = self.ask(id, **more)
        return answer.replica.id if isinstance(answer, Seated) else type(answer).__name__


def test_what_has_a_seat_stays_and_what_would_wait_leaves():
    house = House()
    house.full()
    assert [house.where(str(number)) for number in range(3)] == ["w", "cloud/0", "cloud/0"]


def test_while_the_house_is_not_full_everybody_waits():
    house = House()
    assert [house.where(str(number)) for number in range(3)] == ["w", "Queued", "Queued"]


def test_when_it_becomes_full_those_who_wait_leave_the_least_sensitive_first():
    house = House(calls_max=2)
    house.where("seated")
    for id, sensitivity in (("c", Sensitivity.CONFIDENTIAL), ("i", Sensitivity.INTERNAL), ("p", Sensitivity.PUBLIC)):
        assert house.where(id, sensitivity=sensitivity) == "Queued"
    house.full()
    assert [id for id in house.told if house.told[id]] == ["i", "p"]
    assert house.pool.seats.waiting == 1


def test_those_who_found_a_seat_outside_are_no_reason_to_refuse_those_who_come_back():
    house = House(calls_max=100)
    house.full()
    assert house.where("seated") == "w"
    for number in range(40):  # two seconds of calls that leave at once: nobody waits here
        assert house.where(str(number)) == "cloud/0"
        house.clock.time += 0.05
    house.outside.lanes[0].replica.ready = False
    assert house.where("first back") == "Queued"
    house.clock.time += 0.9
    house.worker.left(Size(1, 11))
    house.pool.seats.departed(house.clock.now(), 11)
    assert house.where("second back") == "Queued", "it would wait for two seconds, but it is only the second one"


def test_with_nobody_in_the_house_calls_leave_whatever_the_signals_say():
    house = House()
    house.worker.ready = False
    assert house.where("a") == "cloud/0"
    house.worker.ready = True
    assert house.where("b") == "w"


@pytest.mark.parametrize("more", [{"local_only": True}, {"local_only": True, "sensitivity": Sensitivity.PUBLIC}])
def test_what_must_stay_stays(more):
    house = House()
    house.worker.ready = False
    house.full()
    assert house.where("a", **more) == "Queued"
    house.pool.tick()
    assert house.told["a"] == []


def test_what_another_worker_must_go_on_with_does_not_leave():
    house = House()
    house.worker.ready = False
    call = Call("a", "m", "t", "/v1/chat/completions", True, 0.0, work=Work(array("I", [1]), 10), body=BODY)
    ticket = Ticket("a", Priority.STANDARD, Want(Size(1, 11), anyway=True, fingerprint="fp"), 1e9, "t", True)
    assert isinstance(house.pool.ask(ticket, Mailbox(), call), Queued)


def test_the_preferred_provider_comes_first_and_the_next_when_it_rests_is_full_or_is_broken():
    house = House(clouds=3, calls_max=1)
    house.full()
    house.where("seated")
    first, second, third = (lane.replica for lane in house.outside.lanes)
    second.rest(house.clock.now() + 10)
    assert [house.where(str(number)) for number in range(3)] == ["cloud/0", "cloud/2", "Queued"]
    house.clock.time += 11
    assert house.where("again") == "cloud/1"
    assert (first.used, second.used, third.used) == (1, 1, 1)


def test_money_is_set_aside_before_and_settled_after():
    house = House(cap=1.0, price=1000.0)
    house.full()
    house.where("seated")
    assert house.where("a") == "cloud/0"
    most = house.outside.spend.reserved
    assert most >= (len(BODY) + 10) * 1000 / 1_000_000
    assert house.written
    assert house.written[-1][1] >= most
    house.outside.settle("a", 5, 5)
    assert house.outside.spend.reserved == 0.0
    assert house.outside.spend.spent == pytest.approx(0.01)
    ended = house.outside.ended(1.0, Outcome("a", End.SERVED, "m", "t", replica="cloud/0", cloud=True))
    assert ended.money == pytest.approx(0.01)
    assert (ended.tokens_in, ended.tokens_out) == (5, 5)


def test_what_there_is_no_money_for_waits():
    house = House(cap=0.0001)
    house.full()
    house.where("seated")
    assert house.where("a") == "Queued"


def test_a_call_the_provider_would_not_take_is_not_sent_there_again():
    house = House()
    account = LaneAccount(house.outside, house.clock)
    account.lane = house.outside.lanes[0]
    house.full()
    house.where("seated")
    account.refused("a")
    assert house.where("a") == "Queued"
    assert house.where("b") == "cloud/0"


def test_errors_of_the_house_are_a_signal_from_enough_calls_on_and_those_of_the_provider_are_none():
    house = House()
    failed = Outcome("x", End.FAILED, "m", "t", Why.REPLICA, first_token_s=0.1)
    served = Outcome("x", End.SERVED, "m", "t", first_token_s=0.1)
    for _ in range(10):
        house.outside.ended(house.clock.now(), failed)
    house.outside.tick()
    assert not house.outside.overflow.is_on
    for _ in range(10):
        house.outside.ended(house.clock.now(), served)
    house.outside.tick()
    assert house.outside.overflow.alerts == {Signal.ERRORS}
    other = House()
    for _ in range(50):
        other.outside.ended(
            other.clock.now(), Outcome("x", End.FAILED, "m", "t", Why.REPLICA, replica="cloud/0", cloud=True)
        )
    other.outside.tick()
    assert not other.outside.overflow.is_on


def test_one_hot_host_among_many_is_not_a_full_house():
    house = House()
    for number in range(4):
        replica = Replica(f"w{number}", ReplicaKind.LINK, Capacity(1, 100), "fp", Breaker(BreakerRules()))
        replica.ready = True
        house.pool.join(replica, house.upstream)
        house.pool.reported(replica, Load(cpu=100 if number == 0 else 20, memory=30))
    house.outside.tick()
    assert house.outside.readings.cpu == pytest.approx(40.0)
    assert not house.outside.overflow.is_on
