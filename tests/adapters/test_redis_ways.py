"""In a cluster, and where sentinels watch, the store does what it does alone; and when a primary dies the next one is found."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from cordee.adapters.redis.journal import StoreJournal
from cordee.adapters.redis.limits import RedisLimits
from cordee.adapters.redis.marks import StoreMarks
from cordee.adapters.redis.store import Store, StoreRules
from cordee.adapters.redis.ways import way
from cordee.ports import AwayError
from tests.contracts import journal as journals
from tests.contracts import limits as all_limits
from tests.stores import Cluster, Nodes, Watched

RULES = StoreRules(timeout_s=3.0, failures=3, away_s=0.1)
TAKEN_OVER_S = 40.0  # far longer than it takes


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=[Cluster, Watched], ids=["cluster", "sentinel"])
def nodes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with request.param(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def store(nodes: Nodes) -> AsyncIterator[Store]:
    nodes.wipe()
    store = Store(nodes.url, RULES)
    yield store
    await store.close()


@pytest.fixture
def pass_time() -> Callable[[float], None]:
    return time.sleep  # its clock is its own: the little that the contract asks for passes for real


@pytest.mark.e2e
class TestJournal(journals.Contract):
    @pytest.fixture
    def journal(self, store: Store) -> StoreJournal:
        return StoreJournal(store, journals.KEYS_MAX)


@pytest.mark.e2e
class TestLimits(all_limits.Contract):
    @pytest.fixture
    def limits(self, store: Store) -> RedisLimits:
        return RedisLimits(store)


@pytest.mark.e2e
@pytest.mark.anyio
async def test_marks_are_told_to_all(store: Store) -> None:
    marks = StoreMarks(store, 10)
    await marks.tell(b"one", 60)
    assert [mark for mark, _ in await marks.told()] == [b"one"]


@pytest.mark.e2e
@pytest.mark.anyio
@pytest.mark.parametrize("kind", [Cluster, Watched])
async def test_when_a_primary_dies_what_was_written_is_found_at_the_next_one(
    kind: Callable[[Path], Nodes], tmp_path: Path
) -> None:
    nodes = await asyncio.to_thread(kind, tmp_path)
    with nodes:
        store = Store(nodes.url, RULES)
        names = [f"cordee:test:{number}" for number in range(12)]
        for name in names:
            await store.run(b"SET", name, name)
        await asyncio.to_thread(nodes.await_replicas, len(names))  # the store itself awaits no replication
        nodes.kill_primary(names[0])
        began = time.monotonic()
        while True:
            try:
                values = [await store.run(b"GET", name) for name in names]
                await store.run(b"SET", names[0], b"again")
                break
            except AwayError:
                assert time.monotonic() - began < TAKEN_OVER_S, "no other primary was found"
                await asyncio.sleep(0.02)
        assert values == [name.encode() for name in names]
        assert await store.run(b"GET", names[0]) == b"again"
        await store.close()


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://127.0.0.1:1", "redis+sentinel://127.0.0.1:1/a/b", "redis+cluster://", "redis+cluster://a:1,,b:2",
        "redis+cluster://a:1?db=3", "http://a", "",
    ],
)  # fmt: skip
@pytest.mark.anyio
async def test_a_url_that_names_no_store_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="URL"):
        way(url, 1, 1.0)


@pytest.mark.parametrize("scheme", ["rediss+sentinel", "rediss+cluster"])
@pytest.mark.anyio
async def test_tls_is_for_every_server_of_several(scheme: str) -> None:
    opened = way(f"{scheme}://user:pass%40word@127.0.0.1:1/store?ssl_ca_certs=/ca.pem", 1, 1.0)
    client = vars(opened)["_client"]
    kept = (
        client.connection_pool.connection_kwargs
        if scheme.endswith("sentinel")
        else client.nodes_manager.connection_kwargs
    )
    assert kept["password"] == "pass@word"
    assert kept["ssl_ca_certs"] == "/ca.pem"
    await opened.close()
