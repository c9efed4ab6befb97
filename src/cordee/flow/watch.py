"""Looks after the deadlines of all calls in flight and the waits of all pools, with one coarse timer that runs only while
there is something to look after, and seldom while nothing is new: to wake costs more than to look, and takes its processor from
kernels where they share one. A call is armed when the timer meets it first: most short ones are over by then."""

from __future__ import annotations

from collections.abc import Iterable

from cordee.flow.answer import Answer
from cordee.flow.facts import Expired
from cordee.flow.pacing import Pacer
from cordee.flow.pool import Pool
from cordee.policy.wheel import Wheel
from cordee.ports import Clock, Timer

TICK_S = 0.02  # a deadline is noticed up to this much late
REST_S = 0.05  # between two looks while no call is new, none waits and no deadline comes sooner


class Watch:
    """One per process."""

    __slots__ = ("_clock", "_pacer", "_pools", "_rests", "_timer", "_wheel", "open")

    def __init__(self, clock: Clock, pools: Iterable[Pool]) -> None:
        self._clock = clock
        self._pools = pools
        self._wheel: Wheel[Answer] = Wheel(TICK_S)
        self.open: dict[Answer, None] = {}  # the calls in flight, in the order in which they came
        self._timer: Timer | None = None
        self._rests = False  # the timer is set for longer than a tick
        self._pacer = Pacer()

    def add(self, answer: Answer) -> None:
        self.open[answer] = None
        if self._timer is None:
            self._wait(TICK_S)
        elif self._rests:
            self._timer.cancel()
            self._wait(TICK_S)

    def remove(self, answer: Answer) -> None:
        if answer.slot:
            self._wheel.disarm(answer.slot, answer)
        self.open.pop(answer, None)

    def _wait(self, wait_s: float) -> None:
        self._rests = wait_s > TICK_S
        self._timer = self._clock.call_later(wait_s, self._tick)

    def _tick(self) -> None:
        now = self._clock.now()
        rests = True
        for answer in reversed(self.open):
            if answer.slot:
                break  # so are all that came before
            rests = False
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
                rests = False
            rests = rests and not pool.seats.waiting
        self._pacer.look(now, self.open)
        self._timer = None
        if self.open:
            self._wait(self._rest_s(now) if rests else TICK_S)

    def _rest_s(self, now: float) -> float:
        """Until the next look, where only deadlines are to be looked after."""
        due_s = self._wheel.next_due()
        return REST_S if due_s is None else min(REST_S, max(TICK_S, due_s - now))
