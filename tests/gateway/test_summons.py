"""Calls for a model that is not there: somebody is asked for it, and those who wait hear when it is in vain."""

from __future__ import annotations

import asyncio
from random import Random

from cordee.domain.call import Priority
from cordee.domain.outcome import Refusal, Why
from cordee.domain.presence import Presence, Standing
from cordee.domain.replica import Capacity, ReplicaKind
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.gateway import summons as module
from cordee.gateway.summons import Summons
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.replica import Replica, Size, Want
from cordee.policy.retry import RetryBudget, RetryRules
from cordee.policy.seats import Queued, Seated, SeatRules, Seats, Ticket
from tests.flow.doubles import Clock
from tests.gateway.doubles import Worker

LOADING, FAILED = Standing(Presence.LOADING), Standing(Presence.FAILED, "it needs 300 MB, 200 MB are left")


class Supervisor:
    """Port Loader: says these one after the other, the last one for ever; None: nobody is there."""

    def __init__(self, *said: Standing | None) -> None:
        self.said = list(said)
        self.asked = 0

    async def load(self, model: str) -> Standing:
        assert model == "m"
        self.asked += 1
        said = self.said.pop(0) if len(self.said) > 1 else self.said[0]
        if said is None:
            raise ConnectionRefusedError("nobody is there")
        return said


def pool_of(loader: Supervisor) -> tuple[Pool, Summons, Clock]:
    clock = Clock()
    pool = Pool(Seats("m", SeatRules()), RetryBudget(RetryRules(), clock.now()), AttemptRules(), clock, Random(1))
    summons = Summons({"m": True}, loader)
    summons.attach(pool)
    return pool, summons, clock


def wait_in(pool: Pool, name: str = "c") -> asyncio.Future[Fact]:
    """What a call that waits is told in the end."""
    box: Mailbox[Fact] = Mailbox()
    told: asyncio.Future[Fact] = asyncio.get_running_loop().create_future()

    async def call() -> None:
        told.set_result(await box.next())

    asked = pool.ask(Ticket(name, Priority.STANDARD, Want(Size(1, 10)), pool.clock.now() + 60), box)
    assert isinstance(asked, Queued)
    box.run(call())
    return told


def come(pool: Pool) -> None:
    replica = Replica("w", ReplicaKind.LINK, Capacity(4, 4000), "f", Breaker(BreakerRules()))
    replica.ready = True
    pool.join(replica, Worker())


def test_a_model_is_asked_for_once_a_round_until_its_worker_is_there(monkeypatch) -> None:
    monkeypatch.setattr(module, "ASK_S", 0.0)

    async def play() -> None:
        loader = Supervisor(LOADING)
        pool, summons, _ = pool_of(loader)
        assert summons.standing("m") == Standing(Presence.ABSENT)
        one, two = wait_in(pool, "1"), wait_in(pool, "2")
        while loader.asked < 3:
            await asyncio.sleep(0)
        assert summons.standing("m") == LOADING
        assert len(asyncio.all_tasks()) == 2, "both wait for the same question"
        come(pool)
        assert isinstance(await one, Seated)
        assert isinstance(await two, Seated)
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
        assert summons.standing("m") == Standing(Presence.LOADED)

    asyncio.run(play())


def test_a_no_reaches_everybody_who_waits_and_is_listed(monkeypatch) -> None:
    monkeypatch.setattr(module, "ASK_S", 0.0)

    async def play() -> None:
        pool, summons, _ = pool_of(Supervisor(LOADING, FAILED))
        for box in [wait_in(pool, str(number)) for number in range(3)]:
            refused = await box
            assert isinstance(refused, Refusal)
            assert refused.why is Why.NO_REPLICA
            assert "'m' is not loaded and cannot be now: it needs 300 MB" in refused.message
        assert not pool.seats.waiting
        assert summons.standing("m") == FAILED

    asyncio.run(play())


def test_who_waits_for_a_supervisor_that_does_not_answer_is_told_after_a_while(monkeypatch) -> None:
    monkeypatch.setattr(module, "ASK_S", 0.0)

    async def play() -> None:
        loader = Supervisor(None)
        pool, _, clock = pool_of(loader)
        box = wait_in(pool)
        while loader.asked < 2:
            await asyncio.sleep(0)
        assert pool.seats.waiting == 1, "it may be back in a moment"
        clock.time += module.UNHEARD_S
        refused = await box
        assert isinstance(refused, Refusal)
        assert "supervisor" in refused.message

    asyncio.run(play())


def test_nobody_is_asked_while_somebody_is_there_and_other_pools_are_left_alone() -> None:
    async def play() -> None:
        loader = Supervisor(LOADING)
        pool, summons, clock = pool_of(loader)
        come(pool)
        asked = pool.ask(Ticket("c", Priority.STANDARD, Want(Size(1, 10)), clock.now() + 60), Mailbox())
        assert isinstance(asked, Seated)
        other = Pool(Seats("other", SeatRules()), pool.budget, AttemptRules(), clock, Random(1))
        summons.attach(other)
        assert other.summons is None
        assert summons.standing("other") is None
        assert not loader.asked

    asyncio.run(play())


def test_the_time_it_took_to_load_says_nothing_about_how_fast_seats_come_back() -> None:
    _, _, clock = pool_of(Supervisor(LOADING))
    seats = Seats("m", SeatRules())
    for _ in range(3):
        seats.ask(clock.now(), Random(1), Ticket("x", Priority.STANDARD, Want(Size(1, 10)), clock.now() + 60))
    clock.time += 5
    seats.departed(clock.now(), 10)
    assert seats.expected_wait_s(clock.now()) > 0
    seats.anew(clock.now())
    assert seats.expected_wait_s(clock.now()) == 0


def test_a_model_that_this_gateway_cannot_speak_for_says_why_until_somebody_is_there() -> None:
    async def play() -> None:
        pool, summons, _ = pool_of(Supervisor(LOADING))
        summons.cannot("m", "its file is cut off")
        assert summons.standing("m") == Standing(Presence.FAILED, "its file is cut off")
        come(pool)
        assert summons.standing("m") == Standing(Presence.LOADED)

    asyncio.run(play())


def test_where_a_file_lies_on_this_host_is_told_to_nobody() -> None:
    async def play() -> None:
        pool, summons, _ = pool_of(Supervisor(Standing(Presence.FAILED, "/srv/models/a.gguf: cannot be read")))
        refusal = await wait_in(pool)
        assert isinstance(refusal, Refusal)
        assert refusal.message.endswith("cannot be now: a.gguf: cannot be read")
        assert summons.standing("m") == Standing(Presence.FAILED, "a.gguf: cannot be read")

    asyncio.run(play())
