"""A receipt per call: what became of it, for its owner to read at GET /v1/calls/ID, on any gateway.

Appending one is all that a call pays; what other gateways are to know is written to the store in batches, behind it. A batch
waits until the store has it: it may be there twice where an attempt failed half-way, and is read once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from cordee.domain.call import Call
from cordee.domain.caller import Caller
from cordee.domain.kept import Receipt
from cordee.domain.outcome import End, Outcome
from cordee.flow.watch import Watch
from cordee.gateway.kept.journals import Journals
from cordee.gateway.kept.resume import CALLS, EVENTS
from cordee.gateway.kept.ring import Ring
from cordee.gateway.replies import JSON, refusal
from cordee.http.exchange import Answer, Outlet
from cordee.http.request import Request
from cordee.ports import AwayError
from cordee.wire.receipt import receipt_body, running_body

log = logging.getLogger(__name__)
ID_CHARS = frozenset(b"0123456789abcdef")
ID_BYTES_MAX = 128
BATCH_MAX = 4096  # receipts in one write to the store; what is beyond waits for the next one
WAITING_MAX = 8  # batches that may wait; what ends while so many do is not shared
AGAIN_S = 1.0  # until a store that did not take them is asked again: to write a batch for nothing takes milliseconds
Spawn = Callable[[Coroutine[Any, Any, None], Outlet], None]


class Receipts:
    """Port Ledger: the last `calls_max` outcomes of this gateway, and the way of all to the journal."""

    def __init__(self, watch: Watch, journals: Journals, calls_max: int, keep_s: float, flush_s: float) -> None:
        self._watch = watch
        self._journals = journals
        self._keep_s = keep_s
        self._flush_s = flush_s
        self._ended = Ring(calls_max)
        self._shares = journals.is_shared
        self._waiting: list[tuple[float, Outcome]] = []
        self._writing = asyncio.Lock()

    def append(self, outcome: Outcome) -> None:
        ended = time.time()
        self._ended.add(ended, outcome)
        if self._shares and len(self._waiting) < BATCH_MAX * WAITING_MAX:
            self._waiting.append((ended, outcome))

    async def run(self) -> None:
        """Write to the store what has ended, for as long as this gateway lives."""
        wait_s = self._flush_s
        while True:
            await asyncio.sleep(wait_s)
            wait_s = self._flush_s if await self.flush() else AGAIN_S

    async def flush(self) -> bool:
        """All that waits now; what the store does not take waits on. Whether it took all."""
        async with self._writing:
            for _ in range(0, len(self._waiting), BATCH_MAX):
                batch = self._waiting[:BATCH_MAX]
                try:
                    await self._journals.add_receipts([receipt_of(*one) for one in batch], self._keep_s)
                except AwayError as error:
                    log.debug("%d receipts are not shared yet: %s", len(self._waiting), error)
                    return False
                del self._waiting[: len(batch)]
            return True

    async def settle(self) -> None:
        """Until nothing waits."""
        while not await self.flush():
            await asyncio.sleep(self._flush_s)

    async def show(self, request: Request, exchange: Outlet, caller: Caller) -> None:
        """GET /v1/calls/ID. Raises AwayError."""
        id = request.path.removeprefix(CALLS)
        if len(id) > ID_BYTES_MAX or not ID_CHARS.issuperset(id):
            exchange.answer(_unknown())
            return
        body = await self._body(id.decode(), caller.tenant)
        exchange.answer(Answer(200, JSON, body) if body is not None else _unknown())

    async def _body(self, id: str, tenant: str) -> bytes | None:
        for answer in self._watch.open:
            if answer.call.id == id:
                return _running(answer.call) if answer.call.tenant == tenant else None
        found = [receipt_of(*one) for one in self._ended.find(id)]
        if self._shares:
            try:
                found += await self._journals.receipts(id)
            except AwayError:
                if not found or any(map(_has_others, found)):
                    raise
        if found:
            ordered = sorted(dict.fromkeys(found), key=lambda receipt: receipt.ended)
            return receipt_body(ordered) if ordered[0].tenant == tenant else None
        kept = await self._journals.find(id)
        if kept is None or kept.call.tenant != tenant:
            return None
        return running_body(id, kept.call.model, kept.call.path, kept.call.created)


class ReceiptPaths:
    """GET /v1/calls/ID and GET /v1/calls/ID/events."""

    def __init__(
        self, receipts: Receipts, events: Callable[[Request, Outlet, Caller | None], None], spawn: Spawn
    ) -> None:  # fmt: skip
        self._receipts = receipts
        self._events = events
        self._spawn = spawn

    def get(self, request: Request, exchange: Outlet, caller: Caller | None) -> None:
        assert caller is not None
        if request.path.endswith(EVENTS):
            self._events(request, exchange, caller)
        else:
            self._spawn(self._receipts.show(request, exchange, caller), exchange)


def receipt_of(ended: float, outcome: Outcome) -> Receipt:
    """`ended` in Unix seconds."""
    return Receipt(
        outcome.call_id, outcome.tenant, ended, outcome.end.value, outcome.model,
        outcome.why.value if outcome.why is not None else "", outcome.asked, outcome.path,
        outcome.replicas or ((outcome.replica,) if outcome.replica else ()), outcome.attempts, outcome.continued,
        outcome.continuation, outcome.identical, outcome.resumed, outcome.cloud, outcome.money, outcome.tokens_in,
        outcome.tokens_out, outcome.cached, outcome.queue_s, outcome.first_token_s, outcome.total_s,
    )  # fmt: skip


def _has_others(receipt: Receipt) -> bool:
    """Whether another gateway has, or may have, a receipt of this call too."""
    return receipt.resumed or receipt.end == End.ABANDONED


def _running(call: Call) -> bytes:
    return running_body(call.id, call.model, call.path, int(time.time()))


def _unknown() -> Answer:
    return refusal(404, "there is no such call of yours, or it was forgotten", code="call_not_found")
