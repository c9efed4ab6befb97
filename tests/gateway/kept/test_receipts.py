"""Receipts on their way to a store that is slow, away, or left in the middle: each arrives, and is read once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cordee.adapters.clock import LoopClock
from cordee.domain.caller import Caller
from cordee.domain.kept import Receipt
from cordee.domain.outcome import End, Outcome, Why
from cordee.flow.watch import Watch
from cordee.gateway.kept.journals import Journals
from cordee.gateway.kept.receipts import BATCH_MAX, Receipts
from cordee.http.exchange import Answer
from cordee.http.request import Request
from cordee.memory.journal import MemoryJournal
from cordee.ports import AwayError

pytestmark = pytest.mark.anyio
FLUSH_S = 0.01
BROKEN_OFF = Outcome("aabb01", End.ABANDONED, "m", "acme", why=Why.SHUTDOWN, replica="w1", tokens_out=28)
GONE_ON = replace(BROKEN_OFF, end=End.SERVED, why=None, resumed=True, tokens_out=92)


class Store(MemoryJournal):
    """The journal that two gateways share: `is_away` refuses all, and what is added waits for `gate`, before and after."""

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop().time, 50, 1 << 24)
        self.is_away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_asked = asyncio.Event()
        self.writes: list[int] = []

    async def add_receipts(self, receipts: Sequence[Receipt], keep_s: float) -> None:
        self._refuse()
        self.is_asked.set()
        await super().add_receipts(receipts, keep_s)
        self.writes.append(len(receipts))
        await self.gate.wait()
        self._refuse()

    async def receipts(self, call_id: str) -> Sequence[Receipt]:
        self._refuse()
        return await super().receipts(call_id)

    def _refuse(self) -> None:
        if self.is_away:
            raise AwayError("it is away")


class Reader:
    """An Outlet that takes one answer."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []

    def answer(self, answer: Answer) -> None:
        self.answers.append(answer)


def gateway(store: Store) -> Receipts:
    clock = LoopClock(asyncio.get_running_loop())
    own = MemoryJournal(clock.now, 50, 1 << 20)
    return Receipts(Watch(clock, ()), Journals(own, store), 100, 60.0, FLUSH_S)


async def shown(receipts: Receipts, id: str = "aabb01") -> dict[str, Any]:
    """Raises AwayError."""
    reader = Reader()
    request = Request(b"GET", "1.1", {}, keep_alive=True)
    request.path = b"/v1/calls/" + id.encode()
    await receipts.show(request, reader, Caller("k1", "acme"))  # type: ignore[arg-type]
    found: dict[str, Any] = json.loads(reader.answers[0].body)
    return found


async def test_what_was_being_written_when_the_gateway_ended_arrives_and_counts_once() -> None:
    store = Store()
    one, other = gateway(store), gateway(store)
    one.append(BROKEN_OFF)
    store.gate.clear()
    background = asyncio.create_task(one.run())
    await store.is_asked.wait()
    background.cancel()
    store.gate.set()
    await one.settle()
    assert store.writes == [1, 1]  # the first attempt had arrived, which nobody could know
    other.append(GONE_ON)
    receipt = await shown(other)
    assert (receipt["status"], receipt["resumed"], receipt["usage"]["completion_tokens"]) == ("served", 1, 120)


async def test_what_was_to_be_written_next_when_the_gateway_ended_arrives() -> None:
    store = Store()
    one = gateway(store)
    for _ in range(50):  # the end may come at any step of the way to the store
        background = asyncio.create_task(one.run())
        one.append(BROKEN_OFF)
        await asyncio.sleep(FLUSH_S)
        background.cancel()
        await one.settle()
        assert (await shown(gateway(store)))["usage"]["completion_tokens"] > 0


async def test_receipts_wait_for_a_store_that_is_away() -> None:
    store = Store()
    one = gateway(store)
    store.is_away = True
    for number in range(BATCH_MAX + 1):
        one.append(replace(BROKEN_OFF, call_id=f"{number:06x}"))
    await one.flush()
    settling = asyncio.create_task(one.settle())
    await asyncio.sleep(FLUSH_S * 3)
    assert not settling.done()
    store.is_away = False
    await settling
    assert store.writes == [BATCH_MAX, 1]
    assert (await shown(gateway(store), f"{BATCH_MAX:06x}"))["status"] == "abandoned"


@pytest.mark.parametrize("outcome", [BROKEN_OFF, GONE_ON])
async def test_a_part_of_a_call_is_not_shown_as_the_whole(outcome: Outcome) -> None:
    store = Store()
    one = gateway(store)
    one.append(outcome)
    store.is_away = True
    with pytest.raises(AwayError):
        await shown(one)


async def test_a_call_that_was_served_here_is_shown_without_the_store() -> None:
    store = Store()
    one = gateway(store)
    one.append(replace(GONE_ON, resumed=False))
    store.is_away = True
    assert (await shown(one))["usage"]["completion_tokens"] == 92


async def test_parts_are_told_in_the_order_in_which_they_ended() -> None:
    store = Store()
    one, other = gateway(store), gateway(store)
    one.append(BROKEN_OFF)
    other.append(GONE_ON)
    await other.flush()
    await one.flush()  # it had to wait
    assert (await shown(gateway(store)))["status"] == "served"
