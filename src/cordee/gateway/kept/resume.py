"""A client comes back for the rest of an answer, to this gateway or to another one than before.

A resume is authorised like the call itself. Whatever is wrong with it, foreign, forged, forgotten or out of range, gets the same
answer, so that nobody learns what exists.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from cordee.domain.caller import Caller
from cordee.domain.kept import Found, KeptBytes, KeptCall
from cordee.gateway.kept.call import Kept, Source
from cordee.gateway.kept.idempotency import digest
from cordee.gateway.kept.replay import replay_bytes, replay_tokens
from cordee.gateway.replies import CHAT_PATH, no_stream
from cordee.gateway.translate import Translation
from cordee.http.exchange import Outlet
from cordee.http.request import Request
from cordee.wire.errors import Invalid
from cordee.wire.position import START, Position, read, together

if TYPE_CHECKING:
    from cordee.gateway.calls import Calls, ShapeOf
    from cordee.gateway.kept.keeping import Keeping

LAST = b"last-event-id"
BEGINNING = (b"", b"0")
EVENTS = b"/events"
CALLS = b"/v1/calls/"
ID_CHARS = frozenset(b"0123456789abcdef")
ID_BYTES_MAX = 128


class Resumes:
    """Finds what a client comes back for, and has it go on."""

    def __init__(self, keeping: Keeping, calls: Calls) -> None:
        self._keeping = keeping
        self._calls = calls

    def by_post(self, request: Request, exchange: Outlet, caller: Caller, shape_of: ShapeOf | None) -> None:
        """POST of the same path with Last-Event-ID, and the same body or none."""
        try:
            stream, start = read(request.headers[LAST].decode("ascii"))
        except ValueError:
            self._deny(exchange)
            return
        self._keeping.spawn(self._resume(stream, start, request, exchange, caller, shape_of), exchange)

    def by_get(
        self, request: Request, exchange: Outlet, caller: Caller | None, shape_of: ShapeOf | None = None
    ) -> None:
        """GET /v1/calls/ID/events, with Last-Event-ID or from the beginning. `shape_of`: for another protocol than HTTP."""
        assert caller is not None
        stream = request.path.removeprefix(CALLS).removesuffix(EVENTS)
        last = request.headers.get(LAST, b"")
        try:
            named, start = (stream.decode("ascii"), None) if last in BEGINNING else read(last.decode("ascii"))
        except ValueError:
            self._deny(exchange)
            return
        if named.encode() != stream or not ID_CHARS.issuperset(stream) or len(stream) > ID_BYTES_MAX:
            self._deny(exchange)
            return
        self._keeping.spawn(self._resume(named, start, request, exchange, caller, shape_of), exchange)

    async def _resume(
        self, stream: str, start: Position | None, request: Request, exchange: Outlet, caller: Caller,
        shape_of: ShapeOf | None,
    ) -> None:  # fmt: skip
        found = await self._keeping.come_far(stream, exchange, caller.tenant)
        if found is None or not exchange.is_open:
            self._deny(exchange)
            return
        call = found.call
        if request.body and digest(request.path, request.body) != call.digest:
            raise Invalid("this answer was given to another request; send the same body, or none", status=409)
        if request.method == b"POST" and shape_of is None and request.path != call.path.encode():
            self._deny(exchange)
            return
        if shape_of is not None and call.path != CHAT_PATH.decode():
            self._deny(exchange)  # other protocols speak chats only
            return
        if call.forwarded:
            if start is None and isinstance(found.answer, KeptBytes):
                replay_bytes(_outlet(exchange, call, shape_of), found, b"")
                self._count("resumed")
                self._keeping.served_from(Source.JOURNAL)
            else:
                self._deny(exchange)
            return
        again = Request(b"POST", request.version, request.headers, request.keep_alive)
        again.path, again.body = call.path.encode(), call.body or request.body
        if not again.body:
            self._deny(exchange)
            return
        await self._go_on(found, start, again, exchange, caller, shape_of)

    async def _go_on(
        self, found: Found, start: Position | None, again: Request, exchange: Outlet, caller: Caller,
        shape_of: ShapeOf | None,
    ) -> None:  # fmt: skip
        keeping, call = self._keeping, found.call
        if self._calls.openings is not None:
            await self._calls.openings.opened(call.model)
        draft = self._calls.draft(again, exchange, caller, shape_of)
        if draft is None:  # the model is another server's now
            self._deny(exchange)
            return
        work = await asyncio.get_running_loop().run_in_executor(None, draft.build) if draft.is_long else draft.build()
        work = replace(work, sampling=replace(work.sampling, seed=call.seed))
        if start is not None and not _may_be(start, work.n, is_stream=call.stream):
            self._deny(exchange)
            return
        delivered = sum(start.counts) if start is not None else 0
        charged = None if found.answer is not None else await keeping.accounts(found, delivered)
        kept = Kept(
            call, "", keeping.journals, keeping.rules.keep_s, keeping.behind, exchange, attach=found.replica, resumes=True,
            charged=charged,
        )  # fmt: skip
        if charged is not None:
            keeping.begins(kept)
        kept.verdict = self._count
        kept.served_from = keeping.served_from
        if start is None:
            self._count("resumed")
        if found.answer is not None:
            replay_tokens(draft, work, kept, found.answer, start, b"")
        else:
            self._calls.launch(draft, work, call.id, kept, start)

    def _count(self, verdict: str) -> None:
        self._keeping.repeats[verdict] += 1

    def _deny(self, exchange: Outlet) -> None:
        self._count("unknown")
        exchange.answer(no_stream())


def _outlet(exchange: Outlet, call: KeptCall, shape_of: ShapeOf | None) -> Outlet:
    """Where another server's bytes are written to."""
    if shape_of is None:
        return exchange
    return Translation(exchange, shape_of(call.id, call.model, call.fingerprint), stream=call.stream)


def _may_be(start: Position, n: int, *, is_stream: bool) -> bool:
    """Whether an answer of n choices can have this position at all. What is left to say no is the hash of its tokens."""
    if not is_stream or len(start.counts) > n:
        return False
    return any(start.counts) or start.hash == together([START] * len(start.counts))
