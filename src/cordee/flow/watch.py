"""Looks after the deadlines of all calls in flight and the waits of all pools, with one coarse timer that runs only while
there is something to look after. A call is armed when the timer meets it first: most short ones are over by then."""

from __future__ import annotations

from collections.abc import Iterable

from cordee.flow.answer import Answer
from cordee.flow.facts import Expired
from cordee.flow.pacing import Pacer
from cordee.flow.pool import Pool
from cordee.policy.wheel import Wheel
from cordee.ports import Clock

TICK_S = 0.02  # a deadline is noticed up to this much late


class Watch:
    """One per process."""

    __slots__ = ("_clock", "_pacer", "_pools", "_ticking", "_wheel", "open")

    def __init__(self, clock: Clock, pools: Iterable[Pool]) -> None:
        self._clock = clock
        self._pools = pools
        self._wheel: Wheel[Answer] = Wheel(TICK_S)
        self.open: dict[Answer, None] = {}  # the calls in flight, in the order in which they came
        self._ticking = False
        self._pacer = Pacer()

    def add(self, answer: Answer) -> None:
        self.open[answer] = None
        if not self._ticking:
            self._ticking = True
            self._clock.call_later(TICK_S, self._tick)

    def remove(self, answer: Answer) -> None:
        if answer.slot:
            self._wheel.disarm(answer.slot, answer)
        self.open.pop(answer, None)

    def _tick(self) -> None:
        now = self._clock.now()
        for answer in reversed(self.open):
            if answer.slot:
                break  # so are all that came before
            limits = answer.call.deadlines
            answer.slot = self._wheel.arm(answer.call.arrived_s + min(limits.first_token_s, limits.total_s), answer)
        for answer in self._wheel.due(now):
            verdict = answer.overdue(now)
            if isinstance(verdict, Expired):
                answer.box.post(verdict)
            else:
                answer.slot = self._wheel.arm(verdict, answer)
        for pool in self._pools:
            pool.tick()
            if pool.ward is not None and pool.ward.waiting:
                pool.ward.look()
        self._pacer.look(now, self.open)
        self._ticking = bool(self.open)
        if self._ticking:
            self._clock.call_later(TICK_S, self._tick)
