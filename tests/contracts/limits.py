"""What every Limits does, whatever stands behind it. `Contract` is subclassed by a test of each; its fixture `limits` gives one in
which nothing was used, `pass_time(s)` lets its time pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from cordee.policy.lease import Ask, Grant, Kind
from cordee.ports import Limits

HOUR_S = 3600.0
HELD_S = 0.3


def bucket(amount: int, limit: int = 6, burst: int = 15, name: str = "key:a:requests") -> Ask:
    return Ask(name, Kind.BUCKET, amount, limit, burst, HOUR_S)


def window(amount: int, limit: int = 100, name: str = "key:a:tokens/day:20261121") -> Ask:
    return Ask(name, Kind.WINDOW, amount, limit, limit, HOUR_S)


def held(amount: int, limit: int = 4, expires_s: float = HOUR_S, name: str = "key:a:calls") -> Ask:
    return Ask(name, Kind.HELD, amount, limit, limit, expires_s)


async def one(limits: Limits, ask: Ask, holder: str = "g1") -> Grant:
    (grant,) = await limits.lease(holder, [ask])
    return grant


@pytest.mark.anyio
class Contract:
    async def test_a_bucket_gives_no_more_than_its_burst_at_once(self, limits: Limits) -> None:
        assert (await one(limits, bucket(10))).granted == 10
        grant = await one(limits, bucket(10), "g2")
        assert grant.granted == 5
        assert grant.remaining == 0
        empty = await one(limits, bucket(1))
        assert empty.granted == 0
        assert 0 < empty.retry_s <= 10.0

    async def test_a_bucket_fills_again(self, limits: Limits, pass_time: Callable[[float], None]) -> None:
        await one(limits, bucket(15, limit=6000))
        pass_time(0.1)
        assert (await one(limits, bucket(15, limit=6000))).granted >= 9

    async def test_what_is_given_back_can_be_had_again(self, limits: Limits) -> None:
        await one(limits, bucket(15))
        assert (await one(limits, bucket(-6))).granted == -6
        assert (await one(limits, bucket(10), "g2")).granted == 6
        await one(limits, window(100))
        assert await one(limits, window(-30)) == Grant(-30, 30)
        assert (await one(limits, window(50), "g2")).granted == 30

    async def test_a_bucket_never_holds_more_than_its_burst(self, limits: Limits) -> None:
        await one(limits, bucket(-100))
        assert (await one(limits, bucket(100))).granted == 15

    async def test_a_window_gives_its_limit_once(self, limits: Limits) -> None:
        assert await one(limits, window(70)) == Grant(70, 30)
        assert await one(limits, window(70), "g2") == Grant(30, 0)
        assert await one(limits, window(1)) == Grant(0, 0)

    async def test_another_period_is_another_window(self, limits: Limits) -> None:
        await one(limits, window(100))
        assert (await one(limits, window(1, name="key:a:tokens/day:20261122"))).granted == 1

    async def test_a_window_takes_back_no_more_than_was_used(self, limits: Limits) -> None:
        await one(limits, window(-100))
        assert (await one(limits, window(500))).granted == 100

    async def test_amounts_beyond_thirty_two_bits_stay_exact(self, limits: Limits) -> None:
        large = 1_000_000_000_000_000
        await one(limits, window(large - 1, limit=large))
        assert await one(limits, window(5, limit=large)) == Grant(1, 0)

    async def test_what_is_held_is_said_as_a_whole_and_may_be_said_again(self, limits: Limits) -> None:
        assert await one(limits, held(3)) == Grant(3, 1)
        assert await one(limits, held(3)) == Grant(3, 1)
        assert await one(limits, held(3), "g2") == Grant(1, 0)
        assert await one(limits, held(1)) == Grant(1, 2)
        assert await one(limits, held(3), "g2") == Grant(3, 0)

    async def test_what_a_gateway_held_that_died_is_free_after_a_while(
        self, limits: Limits, pass_time: Callable[[float], None]
    ) -> None:
        await one(limits, held(4), "dead")
        assert (await one(limits, held(1))).granted == 0
        await one(limits, held(4, expires_s=HELD_S), "dead")
        pass_time(HELD_S + 0.1)
        assert (await one(limits, held(1))).granted == 1

    async def test_a_limit_that_was_lowered_holds_at_once(self, limits: Limits) -> None:
        await one(limits, window(50))
        assert await one(limits, window(10, limit=40)) == Grant(0, 0)

    async def test_answers_come_in_the_order_of_the_questions(self, limits: Limits) -> None:
        grants = await limits.lease("g1", [bucket(1), window(2), held(3), bucket(4, name="key:b:requests")])
        assert [grant.granted for grant in grants] == [1, 2, 3, 4]

    async def test_many_at_once_get_no_more_than_there_is(self, limits: Limits) -> None:
        grants = await asyncio.gather(*(limits.lease(f"g{n}", [window(7)]) for n in range(40)))
        assert sum(grant.granted for (grant,) in grants) == 100

    async def test_names_may_be_anything(self, limits: Limits) -> None:
        for name in ("tenant:}{\r\nFLUSHALL:requests", "é" * 300, ""):
            assert (await one(limits, bucket(1, name=name))).granted == 1
