"""What one gateway has proven, the others refuse: over a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from cordee.adapters.redis.marks import KEY, StoreMarks
from cordee.adapters.redis.store import Store, StoreRules
from cordee.gateway.health.marks import exchange
from cordee.memory.clock import VirtualClock
from cordee.policy.quarantine import Quarantine, QuarantineRules
from cordee.ports import AwayError
from tests.valkey import Valkey

MARK, OTHER, RULES = b"a\x00\xff" * 5 + b"b", b"c" * 16, StoreRules(timeout_s=20.0)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with Valkey(tmp_path) as valkey:
        yield valkey


def test_what_one_gateway_has_proven_the_others_refuse(valkey: Valkey) -> None:
    async def run() -> None:
        store, clock = Store(valkey.url, RULES), VirtualClock()
        marks = StoreMarks(store, 10)
        first, second = Quarantine(QuarantineRules(for_s=60.0)), Quarantine(QuarantineRules())
        known: tuple[set[bytes], set[bytes]] = (set(), set())
        first.prove(0.0, MARK, "t")
        for quarantine, shared in zip((first, second, first), (*known, known[0]), strict=True):
            await exchange(quarantine, marks, clock, shared)
        assert second.ask(0.0, MARK) is not None
        assert second.ask(0.0, OTHER) is None
        assert second.ask(61.0, MARK) is None, "refused for as long as where it was proven, no longer"
        assert 0 < await store.run(b"PTTL", KEY) <= 60_000
        await store.close()

    asyncio.run(run())


def test_only_so_many_are_told(valkey: Valkey) -> None:
    async def run() -> None:
        store = Store(valkey.url, RULES)
        marks = StoreMarks(store, 2)
        for number in range(4):
            await marks.tell(bytes([number]), 10.0 + number)
        assert [mark for mark, _ in await marks.told()] == [b"\x02", b"\x03"]
        await store.close()

    asyncio.run(run())


def test_without_the_store_a_gateway_goes_by_what_it_knows(tmp_path: Path) -> None:
    async def run() -> None:
        store = Store(f"unix:{tmp_path / 'nobody.sock'}", RULES)
        quarantine = Quarantine(QuarantineRules())
        quarantine.prove(0.0, MARK, "t")
        with pytest.raises(AwayError):
            await exchange(quarantine, StoreMarks(store, 10), VirtualClock(), set())
        assert quarantine.ask(0.0, MARK) is not None
        await store.close()

    asyncio.run(run())
