"""The limits in a real Valkey do what every Limits does; one that is dead is away, and one that lies grants nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from cordee.adapters.redis.limits import RedisLimits, _grant
from cordee.adapters.redis.store import Store, StoreRules
from cordee.policy.lease import Grant
from cordee.ports import AwayError
from tests.contracts.limits import Contract, bucket, held, one, window
from tests.valkey import Valkey

RULES = StoreRules(timeout_s=10.0, failures=2, away_s=0.2)  # a store on a busy machine may stand still for a while


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("store")) as valkey:
        yield valkey


@pytest.fixture
async def store(valkey: Valkey) -> AsyncIterator[Store]:
    valkey.ask(b"FLUSHALL")
    store = Store(valkey.url, RULES)
    yield store
    await store.close()


@pytest.fixture
def limits(store: Store) -> RedisLimits:
    return RedisLimits(store)


@pytest.fixture
def pass_time() -> Callable[[float], None]:
    return time.sleep  # its clock is its own: the little that the contract asks for passes for real


class TestRedisLimits(Contract):
    async def test_everything_it_writes_is_forgotten_in_time(self, limits: RedisLimits, store: Store) -> None:
        await limits.lease("g1", [bucket(1), window(1), held(1, expires_s=60)])
        names = await store.run(b"KEYS", b"*")
        assert len(names) == 3
        for name in names:
            assert await store.run(b"PTTL", name) > 0


def test_a_store_that_died_is_away(tmp_path: Path) -> None:
    async def ask() -> None:
        with Valkey(tmp_path) as valkey:
            store = Store(valkey.url, RULES)
            limits = RedisLimits(store)
            assert (await one(limits, window(1))).granted == 1
            valkey.kill()
            with pytest.raises(AwayError):
                await limits.lease("g1", [window(1), bucket(1)])
            await store.close()

    asyncio.run(ask())


@pytest.mark.parametrize("reply", [None, [1, 2], [1, 2, b"x"], b"OK", [99, 0, 0], [-1, 0, 0]])
def test_what_no_store_of_ours_replies_grants_nothing(reply: object) -> None:
    with pytest.raises(AwayError):
        _grant(window(5), reply)


def test_negative_remains_are_none() -> None:
    assert _grant(window(5), [5, -3, 0]) == Grant(5, 0)
