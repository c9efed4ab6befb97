"""The journal in a real Valkey does what every journal does; and one that is dead, frozen, full or lying is away, quickly."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from cordee.adapters.redis.journal import StoreJournal
from cordee.adapters.redis.store import Store, StoreRules
from cordee.domain.kept import Fresh, Same
from cordee.ports import AwayError
from tests.contracts.journal import CALL, KEYS_MAX, LONG_S, RECEIPT, Contract
from tests.valkey import Valkey

RULES = StoreRules(timeout_s=10.0, failures=2, away_s=0.2)  # a store on a busy machine may stand still for a while
QUICK = StoreRules(timeout_s=0.5, failures=2, away_s=0.2)


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
def journal(store: Store) -> StoreJournal:
    return StoreJournal(store, KEYS_MAX)


@pytest.fixture
def pass_time() -> Callable[[float], None]:
    return time.sleep  # its clock is its own: the little that the contract asks for passes for real


class TestStoreJournal(Contract):
    async def test_everything_it_writes_is_forgotten_in_time(self, journal: StoreJournal, store: Store) -> None:
        await journal.reserve("acme", "k", "d1", "c1", LONG_S)
        await journal.begin(CALL, LONG_S)
        await journal.note(CALL.id, replica="w1")
        await journal.alive("g1", LONG_S)
        await journal.add_receipts([RECEIPT], LONG_S)
        for name in await store.run(b"KEYS", b"*"):
            assert await store.run(b"PTTL", name) > 0, name

    async def test_what_is_asked_for_at_once_goes_out_together(self, journal: StoreJournal, store: Store) -> None:
        before = int((await _stats(store))["total_reads_processed"])
        await asyncio.gather(*(journal.find(f"c{number}") for number in range(200)))
        assert int((await _stats(store))["total_reads_processed"]) - before < 50


@pytest.mark.anyio
async def test_two_gateways_share_what_they_write(valkey: Valkey) -> None:
    valkey.ask(b"FLUSHALL")
    one, other = Store(valkey.url, RULES), Store(valkey.url, RULES)
    assert await StoreJournal(one, KEYS_MAX).reserve("acme", "k", "d", "c1", LONG_S) == Fresh()
    assert await StoreJournal(other, KEYS_MAX).reserve("acme", "k", "d", "c2", LONG_S) == Same("c1")
    await one.close()
    await other.close()


@pytest.mark.anyio
async def test_a_store_that_is_dead_is_away_and_comes_back(tmp_path: Path) -> None:
    with Valkey(tmp_path) as valkey:
        store = Store(valkey.url, RULES)
        assert await store.run(b"PING") in (b"PONG", True)
        valkey.kill()
        for _ in range(5):
            with pytest.raises(AwayError):
                await store.run(b"PING")
        assert not store.is_up
        errors = store.errors
        assert errors < 5, "it was not left alone after two failures"
        valkey.restart()
        await _until_up(store)
        assert store.is_up
        await store.close()


@pytest.mark.anyio
async def test_a_store_that_is_frozen_is_away_within_its_time(tmp_path: Path) -> None:
    with Valkey(tmp_path) as valkey:
        store = Store(valkey.url, QUICK)
        await _until_up(store)
        os.kill(valkey.process.pid, signal.SIGSTOP)
        with pytest.raises(AwayError):
            await asyncio.wait_for(store.run(b"PING"), 20 * QUICK.timeout_s)
        os.kill(valkey.process.pid, signal.SIGCONT)
        await _until_up(store)
        await store.close()


@pytest.mark.anyio
async def test_a_full_store_refuses_and_what_was_promised_stays(tmp_path: Path) -> None:
    with Valkey(tmp_path, bytes_max=4 << 20) as valkey:
        store = Store(valkey.url, RULES)
        journal = StoreJournal(store, KEYS_MAX)
        await journal.begin(CALL, LONG_S)
        with pytest.raises(AwayError, match="refused"):
            await _fill(store)
        found = await journal.find(CALL.id)
        assert found is not None
        assert found.call == CALL
        assert store.errors == 1
        await store.close()


@pytest.mark.anyio
async def test_a_lying_store_is_away(store: Store, journal: StoreJournal) -> None:
    await store.run(b"HSET", f"cordee:call:{{{CALL.id}}}", b"call", b"\xff\x00garbage")
    with pytest.raises(AwayError):
        await journal.find(CALL.id)
    await store.run(b"SET", f"cordee:receipts:{{{RECEIPT.id}}}", RECEIPT.id.encode() * 3)
    with pytest.raises(AwayError):
        await store.run(b"HGETALL", f"cordee:receipts:{{{RECEIPT.id}}}")


@pytest.mark.anyio
async def test_a_server_that_is_no_store_is_away(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_unix_server(answer, path)
    store = Store(f"unix:{path}", RULES)
    with pytest.raises(AwayError):
        await store.run(b"PING")
    await store.close()
    server.close()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nowhere"])
@pytest.mark.anyio
async def test_a_url_of_something_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="Redis URL"):
        Store(url, RULES)


async def _fill(store: Store) -> None:
    for number in range(64):
        await store.run(b"SET", f"big{number}", bytes(256 * 1024))


async def _until_up(store: Store) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            await store.run(b"PING")
            return
        except AwayError:
            await asyncio.sleep(0.05)
    raise AssertionError("the store did not come back")


async def _stats(store: Store) -> dict[str, str]:
    told = await store.run(b"INFO", b"stats")
    if isinstance(told, dict):
        return {str(name): str(value) for name, value in told.items()}
    return dict(line.split(":", 1) for line in bytes(told).decode().splitlines() if ":" in line)
