"""From a call to its outcome: may this caller spend, the way through a pool, the end written to the client and recorded."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from cordee.domain.call import Call
from cordee.domain.caller import Caller
from cordee.domain.outcome import End, Outcome, Refusal, Why
from cordee.flow.answer import Answer, Counts
from cordee.flow.facts import CLOSING, Fact
from cordee.flow.guard import guarded
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.flow.serve import Abandoned, Result, Served, outcome, serve
from cordee.flow.trip import Trip
from cordee.flow.watch import Watch
from cordee.gateway.forward import ForwardSink
from cordee.gateway.kept.call import Kept
from cordee.gateway.limits.allow import FREE, Allow, Allowance, AllowRules
from cordee.gateway.limits.overload import Overload
from cordee.gateway.limits.waiting import Desk, refused_lines
from cordee.gateway.metrics import Metrics
from cordee.gateway.onward import Onward
from cordee.gateway.replies import failure, refusal_of
from cordee.gateway.sinks import TokenSink
from cordee.gateway.tasks.sink import TaskSink
from cordee.http.exchange import Outlet
from cordee.policy.after import Stop
from cordee.policy.budget import Calendar
from cordee.policy.fallback import Cause, cause_of
from cordee.ports import Clock, Ledger
from cordee.wire import errors

if TYPE_CHECKING:
    from cordee.gateway.outside.overflow import Outside

log = logging.getLogger(__name__)
DRAIN_LOOK_S = 0.02
AGAIN_S = {Why.ATTEMPTS: 1.0, Why.SHUTDOWN: 1.0}  # when asking again makes sense for what waiting may cure


class Walks:
    """All calls of a gateway that are on their way."""

    def __init__(
        self, watch: Watch, metrics: Metrics, counts: Counts, clock: Clock, allow: Allow | None = None
    ) -> None:  # fmt: skip
        self._watch = watch
        self._metrics = metrics
        self._counts = counts
        self._clock = clock
        self.receipts: Ledger | None = None
        self.outside: Outside | None = None  # where there is a provider that calls may leave for
        self.allow = Allow(AllowRules(), Calendar(clock.now(), 0.0)) if allow is None else allow
        self.overload: Overload | None = None
        self.desk = Desk(clock)

    def begin(
        self, call: Call, pool: Pool, sink: TokenSink | ForwardSink | TaskSink, box: Mailbox[Fact], exchange: Outlet, caller: Caller,
        kept: Kept | None = None, onward: Onward | None = None,
    ) -> None:  # fmt: skip
        """`kept`: the call outlives this gateway, and this is told how it goes. `onward`: where it goes if this model cannot
        answer; what outlives its gateway stays with the model that it was recorded for."""
        if onward is not None and (kept is not None or onward.allowance is not None):
            if kept is None:
                self._arrive(call, pool, sink, box, onward, caller)
                return
            onward = None
        overload = self.overload
        if overload is not None and overload.step:
            going = overload.ask(call)
            if isinstance(going, Refusal):
                self._metrics.rejected[errors.STATUS[going.why]] += 1
                exchange.answer(refusal_of(going, overload.line))
                if kept is not None:
                    kept.declined()
                return
            call, degraded = going
            if degraded:
                sink.mark(degraded)
        allowance = self.allow.ask(call.arrived_s, caller, call) if caller.is_limited else FREE
        if isinstance(allowance, Refusal):
            self._metrics.rejected[errors.STATUS[allowance.why]] += 1
            exchange.answer(refusal_of(allowance, self.allow.headers(call.arrived_s, caller)))
            if kept is not None:
                kept.declined()
            return
        if allowance.headers:
            sink.mark(allowance.headers)
        if onward is not None:
            onward.arrived_s = call.arrived_s
        self._start(call, pool, sink, box, exchange, allowance, Trip(), kept, onward, caller)

    def gives_back(self, onward: Onward) -> None:
        """A request that had moved to another model became no call there."""
        if onward.allowance is not None:
            ended = Outcome("", End.REFUSED, onward.asked, onward.caller.tenant)
            self.allow.settle(self._clock.now(), onward.allowance, ended)

    def _arrive(
        self, call: Call, pool: Pool, sink: TokenSink | ForwardSink | TaskSink, box: Mailbox[Fact], onward: Onward, caller: Caller
    ) -> None:  # fmt: skip
        """A call that another model could not answer: it may spend already, and its time runs since it came first."""
        assert onward.allowance is not None
        if onward.allowance.headers:
            sink.mark(onward.allowance.headers)
        call = replace(call, arrived_s=onward.arrived_s)
        self._start(call, pool, sink, box, onward.exchange, onward.allowance, onward.trip, None, onward, caller)

    def _start(
        self, call: Call, pool: Pool, sink: TokenSink | ForwardSink | TaskSink, box: Mailbox[Fact], exchange: Outlet,
        allowance: Allowance, trip: Trip, kept: Kept | None, onward: Onward | None, caller: Caller,
    ) -> None:  # fmt: skip
        if pool.desk is None:
            pool.desk = self.desk
        if onward is not None and onward.has_moved:
            trip.moves(onward.asked)
            sink.mark(b"x-cordee-model: %s\r\n" % call.model.encode())
        answer = Answer(call, sink, box, self._clock, self._counts)
        answer.caller = caller
        if isinstance(sink, ForwardSink):
            sink.answer = answer
        exchange.listener = sink
        self._watch.add(answer)
        box.run(self._walk(call, answer, pool, sink, allowance, trip, kept, onward))

    def _moves(
        self, answer: Answer, sink: TokenSink | ForwardSink | TaskSink, result: Result, allowance: Allowance, trip: Trip, onward: Onward
    ) -> bool:  # fmt: skip
        """Whether another model answers. Only while nothing has left for the client."""
        if answer.started:
            return False
        if isinstance(result, Refusal | Stop):
            cause = cause_of(result)
        elif isinstance(sink, ForwardSink) and onward.was_outgrown(sink.status, sink.so_far):
            cause = Cause.CONTEXT
        else:
            cause = None
        return cause is not None and onward.moves(cause, trip, allowance)

    async def drain(self, patience_s: float) -> None:
        """Wait for the calls in flight; those that last longer than `patience_s` are ended with an error."""
        try:
            async with asyncio.timeout(patience_s):
                while self._watch.open:
                    await asyncio.sleep(DRAIN_LOOK_S)
        except TimeoutError:
            log.warning("%d calls did not end within %g s and are broken off", len(self._watch.open), patience_s)
            for answer in list(self._watch.open):
                answer.box.post(CLOSING)

    async def _walk(
        self, call: Call, answer: Answer, pool: Pool, sink: TokenSink | ForwardSink | TaskSink, allowance: Allowance, trip: Trip,
        kept: Kept | None, onward: Onward | None,
    ) -> None:  # fmt: skip
        if kept is not None:
            kept.trip = trip
        try:
            ward = pool.ward
            if ward is not None and ward.quarantine.is_watching:
                result = await guarded(call, answer, pool, ward, trip)
            else:
                result = await serve(call, answer, pool, trip)
        except Exception:
            log.exception("call %s met a mistake of ours", call.id)
            answer.stop()
            result = Stop(Why.REPLICA, "an internal error ended this call; its id is in the log")
        self._watch.remove(answer)
        if onward is not None and self._moves(answer, sink, result, allowance, trip, onward):
            return
        match result:
            case Served():
                sink.complete()
            case Refusal():
                sink.mark(refused_lines(result))
                sink.fail(*failure(result.why, result.message, result.retry_after_s))
            case Stop():
                if result.why is Why.QUARANTINED:
                    log.error("call %s of tenant %s: %s", call.id, call.tenant, result.message)
                if kept is None or result.why is not Why.SHUTDOWN or not kept.has_begun():
                    sink.fail(*failure(result.why, result.message, AGAIN_S.get(result.why)))
            case Abandoned():
                pass
            case _:
                assert_never(result)
        now = self._clock.now()
        ended = outcome(call, answer, trip, result, now)
        if kept is not None:
            ended = kept.settled(ended)
        if self.outside is not None:
            ended = self.outside.ended(now, ended)
        if allowance is not FREE:
            self.allow.settle(now, allowance, ended)
        self._metrics.append(ended)
        if self.receipts is not None:
            self.receipts.append(ended)
