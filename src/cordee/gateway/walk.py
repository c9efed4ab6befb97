"""From a call to its outcome: may this caller spend, the way through a pool, the end written to the client and recorded."""

from __future__ import annotations

import asyncio
import logging
from typing import assert_never

from cordee.domain.call import Call
from cordee.domain.caller import Caller
from cordee.domain.outcome import Refusal, Why
from cordee.flow.answer import Answer, Counts
from cordee.flow.facts import CLOSING, Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.flow.serve import Abandoned, Served, Trip, outcome, serve
from cordee.flow.watch import Watch
from cordee.gateway.forward import ForwardSink
from cordee.gateway.metrics import Metrics
from cordee.gateway.replies import failure, refusal_of
from cordee.gateway.sinks import TokenSink
from cordee.http.exchange import Exchange
from cordee.policy.after import Stop
from cordee.policy.rate import Rates
from cordee.ports import Clock
from cordee.wire import errors

log = logging.getLogger(__name__)
DRAIN_LOOK_S = 0.02


class Walks:
    """All calls of a gateway that are on their way."""

    def __init__(self, watch: Watch, metrics: Metrics, counts: Counts, clock: Clock) -> None:
        self._watch = watch
        self._metrics = metrics
        self._counts = counts
        self._clock = clock
        self._rates = Rates()

    def begin(
        self, call: Call, pool: Pool, sink: TokenSink | ForwardSink, box: Mailbox[Fact], exchange: Exchange, caller: Caller
    ) -> None:  # fmt: skip
        refused = self._rates.ask(call.arrived_s, caller)
        if refused is not None:
            self._metrics.rejected[errors.STATUS[refused.why]] += 1
            exchange.answer(refusal_of(refused))
            return
        answer = Answer(call, sink, box, self._clock, self._counts)
        if isinstance(sink, ForwardSink):
            sink.answer = answer
        exchange.listener = sink
        self._watch.add(answer)
        box.run(self._walk(call, answer, pool, sink, caller))

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
        self, call: Call, answer: Answer, pool: Pool, sink: TokenSink | ForwardSink, caller: Caller
    ) -> None:  # fmt: skip
        trip = Trip()
        try:
            result = await serve(call, answer, pool, trip)
        except Exception:
            log.exception("call %s met a mistake of ours", call.id)
            answer.stop()
            result = Stop(Why.REPLICA, "an internal error ended this call; its id is in the log")
        self._watch.remove(answer)
        self._rates.left(caller)
        match result:
            case Served():
                sink.complete()
            case Refusal():
                sink.fail(*failure(result.why, result.message, result.retry_after_s))
            case Stop():
                sink.fail(*failure(result.why, result.message, None))
            case Abandoned():
                pass
            case _:
                assert_never(result)
        self._metrics.append(outcome(call, answer, trip, result, self._clock.now()))
