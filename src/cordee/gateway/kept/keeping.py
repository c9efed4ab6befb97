"""Calls that are to outlive their gateway: written down before they begin, joined or replayed when they are asked again.

A plain call never comes here. One that does costs a task, and an exchange with the store before its first byte. Where the store
is away a call is served all the same: what cannot be promised then is said in its headers.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any, Protocol, assert_never

from cordee.domain.call import Work
from cordee.domain.caller import Caller
from cordee.domain.kept import Conflict, Found, Fresh, Full, KeptCall, Same
from cordee.flow.pool import Pool
from cordee.gateway.calls import Calls, fingerprint_of
from cordee.gateway.draft import Draft
from cordee.gateway.kept.call import Kept, Source
from cordee.gateway.kept.idempotency import (
    KEPT,
    LOCAL,
    NOT_KEPT,
    REPLAYED,
    Wish,
    conflict,
    digest,
    in_progress,
    too_many,
    wish_of,
)
from cordee.gateway.kept.journals import Journals
from cordee.gateway.kept.replay import replay_bytes, replay_tokens
from cordee.gateway.kept.resume import Resumes
from cordee.gateway.replies import refusal
from cordee.http.exchange import Outlet
from cordee.http.request import Request
from cordee.policy.accounts import settled_before
from cordee.ports import AwayError
from cordee.wire.errors import Invalid

log = logging.getLogger(__name__)
UNGUESSABLE_BYTES = 12  # of a kept call's id: who knows it may have been told
OWNER_BEAT_S, OWNER_LASTS_S = 1.0, 3.5  # a gateway that is gone is known to be after three missed beats
LOOK_S, LOOK_S_MAX = 0.02, 0.25  # how often a repeat looks whether the first request has come further
PATIENCE_S = 3.0  # with a store that is away, for those who come back
TAKES_MAX = 3  # of a key whose call fails again and again while its repeats wait


@dataclass(frozen=True, slots=True)
class KeepingRules:
    """See config.sections.kept.Streams and config.sections.kept.Idempotency. `by_default`: calls are kept that do not ask for it."""

    by_default: bool = False
    keep_s: float = 300.0
    key_keep_s: float = 3600.0
    wait_s: float = 30.0
    retry_s: float = 0.5
    answer_bytes_max: int = 1024 * 1024
    request_bytes_max: int = 1024 * 1024


class Repeatable(Protocol):
    """A request that may be sent, as one call or another."""

    request: Request
    exchange: Outlet
    pool: Pool
    stream: bool

    @property
    def caller(self) -> Caller: ...

    def next_id(self) -> str: ...

    def outlet(self, id: str) -> Outlet:
        """Where an answer that was kept is written to."""
        ...

    def send(self, id: str, kept: Kept, said: bytes) -> None: ...


class Keeping:
    """`owner` names this life of this gateway. `running`: the kept calls it answers now. `repeats` counts requests that were
    joined, replayed or resumed, by how; `sources` those of them that were served, by where the answer came from."""

    def __init__(self, calls: Calls, journals: Journals, rules: KeepingRules) -> None:
        self.rules = rules
        self.owner = secrets.token_hex(8)
        self.journals = journals
        self.running: dict[str, Kept] = {}
        self.repeats: Counter[str] = Counter()
        self.sources: Counter[Source] = Counter()
        self.resumes = Resumes(self, calls)
        self._calls = calls
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Say that this gateway lives, for as long as it does."""
        while True:
            await self.journals.alive(self.owner, OWNER_LASTS_S)
            await asyncio.sleep(OWNER_BEAT_S if self.journals.is_known else LOOK_S_MAX)

    def wish(self, request: Request) -> Wish | None:
        """Whether this request is to be kept. Raises Invalid."""
        return wish_of(request, by_default=self.rules.by_default)

    def keep(self, wish: Wish, draft: Draft, work: Work, id: str) -> None:
        """A request for our own workers that is to be kept."""
        self.spawn(self._keep(wish, draft, work, id + secrets.token_hex(UNGUESSABLE_BYTES)), draft.exchange)

    def forward(self, wish: Wish, forwarding: Repeatable) -> None:
        """A request that has an idempotency key, and whose answer is kept as the bytes that it is."""
        self.spawn(self._forward(wish, forwarding), forwarding.exchange)

    def spawn(self, what: Coroutine[Any, Any, None], exchange: Outlet) -> None:
        """What has to wait before it can answer; a refusal it raises is its answer."""
        self._start(self._answered(what, exchange))

    def behind(self, what: Coroutine[Any, Any, None]) -> None:
        """What nobody waits for."""
        self._start(what)

    def served_from(self, source: Source) -> None:
        self.sources[source] += 1

    def begins(self, kept: Kept) -> None:
        """A kept call is answered here from now on, until it ends."""
        id = kept.call.id
        self.running[id] = kept

        def ended() -> None:
            if self.running.get(id) is kept:
                del self.running[id]

        kept.ended = ended

    async def accounts(self, found: Found, delivered: int) -> int | None:
        """Tokens of a call that are not to be charged again, now that its client comes back here; None: none of them here, as
        another gateway, or another connection at this one, accounts for the call. See policy.accounts."""
        is_here = found.accountant == self.owner
        is_accounted = found.call.id in self.running if is_here else found.is_accounted
        if not is_accounted:
            is_accounted = not await self.journals.adopt(found.call.id, found.accountant, self.owner)
        return settled_before(found.charged, delivered, is_accounted=is_accounted)

    def runs(self, found: Found) -> bool:
        """Whether a gateway that lives is at it, as far as is known."""
        return found.call.id in self.running if found.call.owner == self.owner else found.is_owned

    async def settle(self) -> None:
        """Wait for what is told behind the calls' backs."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    # -- our own workers

    async def _keep(self, wish: Wish, draft: Draft, work: Work, id: str) -> None:
        request = draft.request
        call = self._record(draft, work, id, digest(request.path, request.body))
        kept = Kept(call, wish.key, self.journals, self._keep_s(wish.key), self.behind, draft.exchange)
        is_kept, is_shared = False, True
        try:
            for _ in range(TAKES_MAX):
                # Written down before the key is taken: whoever meets the key finds the call it stands for.
                total_s = draft.manner.deadlines.total_s
                is_begun = await self._begin(kept, total_s)
                first, is_shared = await self._take(kept) if wish.key else (None, True)
                if first is None:
                    if wish.key and is_shared and not is_begun:
                        is_begun = is_shared = await self._begin_again(kept, total_s)
                    is_kept = is_begun and len(request.body) == len(call.body)
                    break
                await self._undo(kept)
                if await self._repeat(draft, work, wish.key, first, REPLAYED if is_shared else REPLAYED + LOCAL):
                    return
            else:
                raise in_progress(self.rules.wait_s)
        except (Invalid, AwayError):
            await self._undo(kept)
            raise
        if not draft.exchange.is_open:
            kept.failed()
            await self._undo(kept)
        elif not is_kept and not wish.key:
            await self._undo(kept)
            self._calls.launch(draft, work, id, said=NOT_KEPT if wish.is_explicit else b"")
        else:
            said = (KEPT if is_kept else NOT_KEPT) + (LOCAL if wish.key and not is_shared else b"")
            self._calls.launch(draft, work, id, kept, said=said)

    def _record(self, draft: Draft, work: Work, id: str, told: str) -> KeptCall:
        request, caller = draft.request, draft.caller
        body = request.body if len(request.body) <= self.rules.request_bytes_max else b""
        return KeptCall(
            id, caller.tenant, caller.key_id, request.path.decode(), told, body, bool(draft.body.stream), work.sampling.seed,
            int(time.time()), draft.model.name, fingerprint_of(draft.pool), self.owner,
        )  # fmt: skip

    async def _repeat(self, draft: Draft, work: Work, key: str, call_id: str, said: bytes) -> bool:
        """The same request again. False: its call is gone, and the key may be taken anew."""
        found = await self._come_far(call_id, draft.exchange, draft.caller.tenant, needs_answer=False)
        if found is None:
            await self.journals.release(draft.caller.tenant, key, call_id)
            return False
        if not draft.exchange.is_open:
            return True
        work = replace(work, sampling=replace(work.sampling, seed=found.call.seed))
        charged = None if found.answer is not None else await self.accounts(found, 0)
        kept = Kept(
            found.call, key, self.journals, self._keep_s(key), self.behind, draft.exchange, attach=found.replica, resumes=True,
            charged=charged,
        )  # fmt: skip
        kept.served_from = self.served_from
        if charged is not None:
            self.begins(kept)
        if found.answer is not None:
            self.repeats["replayed"] += 1
            replay_tokens(draft, work, kept, found.answer, start=None, said=said)
        else:
            self.repeats["joined"] += 1
            self._calls.launch(draft, work, found.call.id, kept, said=said)
        return True

    # -- other servers

    async def _forward(self, wish: Wish, forwarding: Repeatable) -> None:
        request, tenant = forwarding.request, forwarding.caller.tenant
        id = forwarding.next_id() + secrets.token_hex(UNGUESSABLE_BYTES)
        call = KeptCall(
            id, tenant, forwarding.caller.key_id, request.path.decode(), digest(request.path, request.body), b"",
            forwarding.stream, 0, int(time.time()), forwarding.pool.model, "", self.owner, forwarded=True,
        )  # fmt: skip
        kept = Kept(call, wish.key, self.journals, self._keep_s(wish.key), self.behind, forwarding.exchange)
        is_shared = True
        try:
            for _ in range(TAKES_MAX):
                is_begun = await self._begin(kept, self.rules.key_keep_s)
                first, is_shared = await self._take(kept)
                if first is None:
                    if is_shared and not is_begun:
                        is_shared = await self._begin_again(kept, self.rules.key_keep_s)
                    break
                await self._undo(kept)
                found = await self._come_far(first, forwarding.exchange, tenant, needs_answer=True)
                if found is not None and found.answer is not None:
                    self.repeats["replayed"] += 1
                    self.served_from(Source.JOURNAL)
                    replay_bytes(forwarding.outlet(found.call.id), found, REPLAYED if is_shared else REPLAYED + LOCAL)
                    return
                await self.journals.release(tenant, wish.key, first)  # whoever ran it is gone
            else:
                raise in_progress(self.rules.wait_s)
        except (Invalid, AwayError):
            await self._undo(kept)
            raise
        if not forwarding.exchange.is_open:
            kept.failed()
            await self._undo(kept)
            return
        forwarding.send(id, kept, (NOT_KEPT if wish.is_explicit else b"") + (b"" if is_shared else LOCAL))

    # -- both

    async def come_far(self, call_id: str, exchange: Outlet, tenant: str) -> Found | None:
        """A call with its answer, or with the replica that has it, or as it is when nobody is at it any more."""
        return await self._come_far(call_id, exchange, tenant, needs_answer=False)

    async def _come_far(self, call_id: str, exchange: Outlet, tenant: str, *, needs_answer: bool) -> Found | None:
        until_s = time.monotonic() + self.rules.wait_s
        pause_s = LOOK_S
        while True:
            found = await self._find(call_id, exchange)
            if found is None or found.call.tenant != tenant:
                return None
            has_come = found.answer is not None or (bool(found.replica) and not needs_answer)
            if not has_come and found.call.owner == self.owner and call_id not in self.running and not found.replica:
                return None  # it did not begin after all
            if has_come or not self.runs(found) or not exchange.is_open:
                return found
            if time.monotonic() >= until_s:
                if needs_answer:
                    raise in_progress(self.rules.wait_s)
                return found
            await asyncio.sleep(pause_s)
            pause_s = min(LOOK_S_MAX, pause_s * 2)

    async def _find(self, call_id: str, exchange: Outlet) -> Found | None:
        """A client that comes back has nowhere else to go: the store is asked more than once. Raises AwayError."""
        until_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await self.journals.find(call_id)
            except AwayError:
                if time.monotonic() >= until_s or not exchange.is_open:
                    raise
            await asyncio.sleep(LOOK_S_MAX)

    def _keep_s(self, key: str) -> float:
        return self.rules.key_keep_s if key else self.rules.keep_s

    async def _begin(self, kept: Kept, total_s: float) -> bool:
        """Whether all gateways know of it."""
        call = kept.call
        self.begins(kept)
        if not self.journals.is_known:  # else whoever comes back for the call would take its gateway for dead
            await self.journals.alive(self.owner, OWNER_LASTS_S)
        try:
            await self.journals.begin(call, total_s + self._keep_s(kept.key))
        except AwayError as error:
            log.debug("call %s is known to this gateway only: %s", call.id, error)
            return False
        return True

    async def _begin_again(self, kept: Kept, total_s: float) -> bool:
        """The store was away for the call and took its key: others would meet a key that stands for nothing they can find. False:
        the key holds here only."""
        if await self._begin(kept, total_s):
            return True
        await self.journals.only_here(kept.call.tenant, kept.key, kept.call.id)
        return False

    async def _take(self, kept: Kept) -> tuple[str | None, bool]:
        """The key for this call, or the call that it stands for already; and whether that holds at all gateways. Raises
        Invalid where neither can be."""
        call = kept.call
        reserved, is_shared = await self.journals.reserve_and_say(
            call.tenant, kept.key, call.digest, call.id, self.rules.key_keep_s
        )
        match reserved:
            case Fresh():
                return None, is_shared
            case Same():
                return reserved.call_id, is_shared
            case Conflict():
                raise conflict()
            case Full():
                raise too_many()
            case _:
                assert_never(reserved)

    async def _undo(self, kept: Kept) -> None:
        """It does not begin after all."""
        kept.ended()
        await self.journals.forget(kept.call.id)

    async def _answered(self, what: Coroutine[Any, Any, None], exchange: Outlet) -> None:
        try:
            await what
        except Invalid as fault:
            self._calls.rejected(fault.status)
            exchange.answer(refusal(fault.status, fault.message, fault.param, fault.code))
        except AwayError:
            self._calls.rejected(503)
            exchange.answer(
                refusal(503, "the store that knows this answer cannot be asked now; try again", code="store_away")
            )
        except Exception:
            log.exception("a call could not be kept")
            self._calls.rejected(500)
            exchange.answer(refusal(500, "an internal error ended this request; the log of this gateway says more"))

    def _start(self, what: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
