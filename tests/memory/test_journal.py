"""The journal in memory does what every journal does, and stays within its bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from cordee.domain.kept import KeptTokens
from cordee.memory.journal import ENTRY_BYTES, MemoryJournal
from tests.contracts.journal import CALL, KEYS_MAX, LONG_S, Contract


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def now(self) -> float:
        return self.now_s

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def journal(clock: Clock) -> MemoryJournal:
    return MemoryJournal(clock.now, KEYS_MAX, bytes_max=1 << 20)


@pytest.fixture
def pass_time(clock: Clock) -> Callable[[float], None]:
    return clock.pass_time


class TestMemoryJournal(Contract):
    pass


@pytest.mark.anyio
async def test_what_was_begun_first_is_forgotten_first_when_there_is_no_room(clock: Clock) -> None:
    room_for_two = 2 * (ENTRY_BYTES + len(CALL.body)) + 8
    journal = MemoryJournal(clock.now, KEYS_MAX, room_for_two)
    for id in ("c1", "c2", "c3"):
        await journal.begin(replace(CALL, id=id), LONG_S)
    assert await journal.find("c1") is None
    assert await journal.find("c3") is not None
    await journal.complete("c3", KeptTokens((bytes(64),), (1,)), LONG_S)
    assert await journal.find("c2") is None
    assert await journal.find("c3") is not None


@pytest.mark.anyio
async def test_an_answer_larger_than_all_room_is_not_kept(clock: Clock) -> None:
    journal = MemoryJournal(clock.now, KEYS_MAX, ENTRY_BYTES)
    await journal.begin(CALL, LONG_S)
    assert await journal.find(CALL.id) is None


@pytest.mark.anyio
async def test_a_million_keys_that_expire_take_the_room_of_few(clock: Clock) -> None:
    journal = MemoryJournal(clock.now, 10, 1 << 20)
    for number in range(200):
        await journal.reserve("acme", f"k{number}", "d", "c", 5.0)
        clock.pass_time(1.0)
    assert len(journal._keys["acme"]) <= 10
