"""What the steps of degradation do here: looks at the pools several times a second, and changes what calls get meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from cordee.domain.call import Call, Priority
from cordee.domain.outcome import Refusal, Why
from cordee.flow.pool import Pool
from cordee.policy.degrade import DegradeRules, Ladder, Step
from cordee.ports import Clock

log = logging.getLogger(__name__)
LOOK_S = 0.25
STEPS = DegradeRules()
RETRY_AFTER_S = 5.0  # about as long as a step is kept


@dataclass(frozen=True, slots=True)
class OverloadRules:
    """`max_tokens`: of calls of class `capped` and below, from the step CAPPED on."""

    steps: DegradeRules = STEPS
    max_tokens: int = 256
    capped: Priority = Priority.BATCH
    enabled: bool = True


class Overload:
    """One per gateway. `step` is zero while all is well: that is all an ordinary call looks at."""

    def __init__(self, rules: OverloadRules, pools: Iterable[Pool], clock: Clock) -> None:
        self.rules = rules
        self.step = Step.NORMAL
        self.capped = 0
        self.refused = 0
        self._pools = pools
        self._clock = clock
        self._ladder = Ladder(rules.steps)

    def start(self) -> None:
        self._clock.call_later(LOOK_S, self._look)

    def follow(self, rules: OverloadRules) -> None:
        """From now on by these."""
        self.rules = rules
        self._ladder.rules = rules.steps

    def ask(self, call: Call) -> tuple[Call, bytes] | Refusal:
        """What becomes of a call at the present step: the call as it goes on, and header lines for its answer."""
        if self.step >= Step.CACHE_ONLY and not call.attach:
            self.refused += 1
            return Refusal(Why.OVERLOADED, f"more is asked for than can be answered ({self._name})", RETRY_AFTER_S)
        work = call.work
        lines = self.line if call.priority is Priority.BATCH and self.step >= Step.BATCH_HELD else b""
        if self.step < Step.CAPPED or work is None or call.keep or call.priority < self.rules.capped:
            return call, lines
        if work.max_tokens <= self.rules.max_tokens:
            return call, lines
        self.capped += 1
        return replace(call, work=replace(work, max_tokens=self.rules.max_tokens)), self.line

    @property
    def refuses(self) -> bool:
        """Whether new calls are refused before anything of them is read."""
        return self.step is Step.REFUSE

    @property
    def line(self) -> bytes:
        """The header that says so."""
        return b"x-cordee-degraded: %s\r\n" % self._name.encode()

    def metrics(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "cordee_degradation_step", "0 normal, 1 hedging off, 2 batch held, 3 capped, 4 cache only, 5 refuse.",
            value=int(self.step),
        )  # fmt: skip
        yield CounterMetricFamily("cordee_degradation_changes", "Steps taken, up and down.", value=self._ladder.changes)
        yield CounterMetricFamily("cordee_calls_capped", "Calls whose answer was made shorter.", value=self.capped)
        yield CounterMetricFamily("cordee_calls_shed", "Calls refused by degradation.", value=self.refused)

    # -- inside

    @property
    def _name(self) -> str:
        return self.step.name.lower()

    def _look(self) -> None:
        self.look(self._clock.now())
        self._clock.call_later(LOOK_S, self._look)

    def look(self, now: float) -> None:
        """Take the signals, and go up or down."""
        wait_s, urgent_s, used, capacity = 0.0, 0.0, 0, 0
        for pool in self._pools:
            wait_s = max(wait_s, pool.seats.expected_wait_s(now))
            urgent_s = max(urgent_s, pool.seats.expected_wait_s(now, Priority.INTERACTIVE))
            for replica in pool.seats.replicas:
                if replica.ready:
                    used += replica.used
                    capacity += replica.capacity.sequences
        utilisation = used / capacity if capacity else 0.0
        step = self._ladder.note(now, wait_s, urgent_s, utilisation) if self.rules.enabled else Step.NORMAL
        held = Priority.BATCH if step >= Step.BATCH_HELD else None
        for pool in self._pools:  # those that are new, too
            pool.seats.hold(held)
            if pool.hedge is not None:
                pool.hedge.is_held = step >= Step.HEDGING_OFF
        if step is self.step:
            return
        log.log(
            logging.WARNING if step > self.step else logging.INFO,
            "degradation: %s → %s, expected wait %.1f s", self._name, step.name.lower(), wait_s,
        )  # fmt: skip
        was, self.step = self.step, step
        if was >= Step.BATCH_HELD > step:
            for pool in self._pools:
                pool.settle()
