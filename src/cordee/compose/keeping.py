"""What outlives a gateway, put together: the journal in its memory and in the shared store, kept calls, receipts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cordee.config.launch import GatewayLaunch
from cordee.config.tree import Config
from cordee.flow.watch import Watch
from cordee.gateway.calls import Calls
from cordee.gateway.front import Front
from cordee.gateway.kept.call import Source
from cordee.gateway.kept.journals import Journals
from cordee.gateway.kept.keeping import Keeping, KeepingRules
from cordee.gateway.kept.receipts import ReceiptPaths, Receipts
from cordee.gateway.kept.resume import CALLS
from cordee.gateway.metrics import Metrics
from cordee.gateway.walk import Walks
from cordee.memory.journal import MemoryJournal
from cordee.ports import Clock

if TYPE_CHECKING:
    from cordee.adapters.redis.store import Store

KEEPING_LIVE = (
    "streams.answer_bytes_max", "streams.request_bytes_max", "streams.retry_s", "idempotency.keep_s", "idempotency.wait_s",
)  # fmt: skip
LAST_WRITE_S = 2.0  # at the end, for what was not written yet


def open_store(config: Config, launch: GatewayLaunch) -> Store | None:
    """The store that all gateways share, None where there is none. Raises ValueError for a URL that is none."""
    url = config.store.url or launch.store
    if not config.store.enabled or not url:
        return None
    # A gateway without a store does not pay for the client: eight megabytes.
    from cordee.adapters.redis.store import Store, StoreRules  # noqa: PLC0415

    s = config.store
    return Store(url, StoreRules(s.timeout_s, s.failures, s.away_s, s.connections, s.pending_max))


def keeping_rules(config: Config, launch: GatewayLaunch) -> KeepingRules:
    streams, idempotency = config.streams, config.idempotency
    return KeepingRules(
        launch.kind == "mobile", streams.keep_s, idempotency.keep_s, idempotency.wait_s, streams.retry_s,
        streams.answer_bytes_max, streams.request_bytes_max,
    )  # fmt: skip


class Kept:
    """The parts of one gateway. `run` is its background work."""

    def __init__(self, keeping: Keeping, receipts: Receipts, store: Store | None) -> None:
        self.keeping = keeping
        self._receipts = receipts
        self._store = store

    def follow(self, rules: KeepingRules) -> None:
        """Calls that come from now on are kept by these."""
        self.keeping.rules = rules

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.keeping.run())
            group.create_task(self._receipts.run())

    async def close(self) -> None:
        """Write what is left, and let go of the store."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WRITE_S):
                await asyncio.gather(self.keeping.settle(), self._receipts.settle())
        if self._store is not None:
            await self._store.close()

    def metrics(self) -> Iterable[Metric]:
        store = self._store
        if store is not None:
            yield GaugeMetricFamily("cordee_store_up", "1: the shared store answered last.", value=int(store.is_up))
            yield CounterMetricFamily(
                "cordee_store_errors", "Exchanges with the shared store that failed.", value=store.errors
            )
        repeats = CounterMetricFamily(
            "cordee_repeats",
            "Requests for an answer that had begun already, by what became of them.",
            labels=["result"],
        )
        for result, count in self.keeping.repeats.items():
            repeats.add_metric([result], count)
        yield repeats
        resumes = CounterMetricFamily(
            "cordee_resumes",
            "Answers given to those who came back for them, by where they were taken from.",
            labels=["source"],
        )
        for source in Source:
            resumes.add_metric([source], self.keeping.sources[source])
        yield resumes
        yield GaugeMetricFamily("cordee_kept_calls_open", "Kept calls in flight here.", value=len(self.keeping.running))


def open_keeping(
    config: Config, launch: GatewayLaunch, clock: Clock, watch: Watch, walks: Walks, calls: Calls, front: Front,
    metrics: Metrics, store: Store | None,
) -> Kept:  # fmt: skip
    own = MemoryJournal(clock.now, config.idempotency.keys_max, config.streams.local_bytes_max)
    shared = None
    if store is not None:
        from cordee.adapters.redis.journal import StoreJournal  # noqa: PLC0415  # see open_store

        shared = StoreJournal(store, config.idempotency.keys_max)
    journals = Journals(own, shared)
    keeping = Keeping(calls, journals, keeping_rules(config, launch))
    calls.keeping = keeping
    r = config.receipts
    receipts = Receipts(watch, journals, r.calls_max, r.keep_s, r.flush_s)
    walks.receipts = receipts
    paths = ReceiptPaths(receipts, keeping.resumes.by_get, keeping.spawn)
    front.paths.add(b"GET", CALLS, paths.get)
    kept = Kept(keeping, receipts, store)
    metrics.more.append(kept.metrics)
    return kept
