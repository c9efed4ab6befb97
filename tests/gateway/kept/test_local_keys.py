"""Where a key holds: at all gateways, or at the one that could not reach the store, and then every answer under it says so."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cordee.domain.kept import KeptCall, Reservation
from cordee.gateway.kept.journals import Journals
from cordee.gateway.kept.keeping import Keeping, KeepingRules
from cordee.memory.journal import MemoryJournal
from cordee.ports import AwayError
from tests.gateway.doubles import Gateway

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
LOCAL = "x-cordee-idempotency"


class Store(MemoryJournal):
    """A shared store that is away for some of what it is asked. `away`: how often, by the name of the method."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0, 50, 1 << 20)
        self.away: dict[str, int] = {}

    async def begin(self, call: KeptCall, keep_s: float) -> None:
        self._be_there("begin")
        await super().begin(call, keep_s)

    async def reserve(self, tenant: str, key: str, digest: str, call_id: str, keep_s: float) -> Reservation:
        self._be_there("reserve")
        return await super().reserve(tenant, key, digest, call_id, keep_s)

    def _be_there(self, name: str) -> None:
        left = self.away.get(name, 0)
        if left:
            self.away[name] = left - 1
            raise AwayError("the store is away")

    def keys(self) -> list[str]:
        return [key for keys in self._keys.values() for key in keys]

    def calls(self) -> list[str]:
        return list(self._calls)


class KeepingGateway(Gateway):
    async def _build(self) -> None:
        await super()._build()
        self.store = Store()
        own = MemoryJournal(asyncio.get_running_loop().time, 50, 1 << 20)
        self.calls.keeping = Keeping(self.calls, Journals(own, self.store), KeepingRules(wait_s=0.3))


@pytest.fixture
def gateway() -> Iterator[KeepingGateway]:
    gateway = KeepingGateway()
    with gateway:
        yield gateway
    assert gateway.faults == []


def ask(gateway: KeepingGateway, key: str) -> tuple[dict[str, str], str]:
    status, headers, answer = gateway.ask(CHAT, headers={"Idempotency-Key": key})
    assert status == 200
    return headers, json.loads(answer)["choices"][0]["message"]["content"]


def test_a_key_in_the_store_stands_for_a_call_in_the_store(gateway: KeepingGateway) -> None:
    headers, _ = ask(gateway, "whole")
    assert LOCAL not in headers
    assert (gateway.store.keys(), gateway.store.calls()) == (["whole"], [headers["x-request-id"]])


def test_a_store_that_missed_the_call_and_took_its_key_is_told_of_the_call_once_more(gateway: KeepingGateway) -> None:
    gateway.store.away = {"begin": 1}
    headers, _ = ask(gateway, "twice")
    assert LOCAL not in headers
    assert (gateway.store.keys(), gateway.store.calls()) == (["twice"], [headers["x-request-id"]])


def test_a_store_that_will_not_hear_of_the_call_loses_its_key_too(gateway: KeepingGateway) -> None:
    gateway.store.away = {"begin": 2}
    headers, _ = ask(gateway, "half")
    assert headers[LOCAL] == "local"
    assert (
        gateway.store.keys() == []
    )  # else another gateway would find a key that stands for nothing, and run the call again


@pytest.mark.parametrize("away", [{"reserve": 1}, {"begin": 2}])
def test_repeats_of_a_key_that_holds_here_only_say_so(gateway: KeepingGateway, away: dict[str, int]) -> None:
    gateway.store.away = away
    _, first = ask(gateway, "here")
    headers, again = ask(gateway, "here")
    assert (headers["idempotency-replayed"], headers[LOCAL]) == ("true", "local")
    assert again == first


def test_what_the_store_has_missed_this_gateway_still_knows() -> None:
    async def run() -> None:
        own, store = Store(), Store()
        call = KeptCall("ab" * 16, "acme", "k", "/v1/chat/completions", "d", b"{}", True, 1, 1, "m", "fp", "g")
        journals = Journals(own, store)
        await journals.begin(call, 60.0)
        await own.note(call.id, replica="w1", charged=30)
        found = await journals.find(call.id)
        assert found is not None
        assert (found.replica, found.charged) == ("w1", 30)

    asyncio.run(run())
