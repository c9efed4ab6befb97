from __future__ import annotations

import asyncio

import pytest

from cordee.gateway.limits.leases import Leases
from cordee.memory.limits import MemoryLimits
from cordee.policy.lease import Kind, Leased, LeaseRules
from cordee.policy.rate import Bucket


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Rounds:
    """One gateway of two, and a clock that somebody sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.store = MemoryLimits(lambda: self.now)
        self.leases = Leases(self.store, "g1", lambda: self.now, interval_s=0.001)
        rules = LeaseRules(gateways=2)
        self.meters = [Leased(0.0, f"m{n}", Kind.BUCKET, Bucket(0.0, 300, 1.0), 600, rules) for n in range(3)]


@pytest.mark.anyio
async def test_only_meters_that_calls_use_are_asked_for():
    rounds = Rounds()
    rounds.leases.want(rounds.meters[0])
    await rounds.leases.round()
    assert list(rounds.store._buckets) == ["m0"]


@pytest.mark.anyio
async def test_an_idle_meter_gives_back_and_leaves_the_rounds():
    rounds = Rounds()
    meter = rounds.meters[0]
    meter.take(0.0, 1)
    rounds.leases.want(meter)
    for _ in range(100):
        rounds.now += 0.1
        await rounds.leases.round()
    assert rounds.leases._active == set()
    assert rounds.store._buckets["m0"][0] == pytest.approx(600, abs=1)


@pytest.mark.anyio
async def test_the_background_begins_when_a_call_does_and_rests_afterwards():
    rounds = Rounds()
    task = asyncio.get_running_loop().create_task(rounds.leases.run())
    await asyncio.sleep(0)
    assert rounds.store._buckets == {}
    rounds.meters[1].take(0.0, 1)
    rounds.leases.want(rounds.meters[1])
    async with asyncio.timeout(5):
        while "m1" not in rounds.store._buckets:
            await asyncio.sleep(0)
        rounds.now = 10.0
        while rounds.leases._active:
            await asyncio.sleep(0)
    task.cancel()


@pytest.mark.anyio
async def test_a_store_that_is_away_leaves_everybody_their_share(caplog):
    rounds = Rounds()
    rounds.store.is_away = True
    meter = rounds.meters[0]
    meter.take(0.0, 1)
    rounds.leases.want(meter)
    for _ in range(3):
        await rounds.leases.round()
    assert rounds.leases.is_away
    assert meter.remaining(0.0) == 299
    assert len(caplog.records) == 1, "it is said once"
    rounds.store.is_away = False
    rounds.now = 2.0
    await rounds.leases.round()
    assert not rounds.leases.is_away


@pytest.mark.anyio
async def test_at_the_end_everything_goes_back():
    rounds = Rounds()
    for meter in rounds.meters:
        meter.take(0.0, 1)
        rounds.leases.want(meter)
    await rounds.leases.round()
    await rounds.leases.give_back(rounds.meters)
    assert [level for level, _ in rounds.store._buckets.values()] == pytest.approx([599.0] * 3)
