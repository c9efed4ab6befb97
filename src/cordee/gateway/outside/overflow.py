"""The door out: watches how full the house is, and lets out what must not wait and may leave, for money that is there.

It is `flow.pool.Gate`, and through LaneAccount `adapters.upstreams.cloud_attempt.Account`: what a call may cost is set aside
before it leaves and settled when the attempt is over, so that the two always meet.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from cordee.adapters.upstreams.cloud import Cloud
from cordee.adapters.upstreams.cloud_request import may_take, most_tokens
from cordee.domain.call import Call
from cordee.domain.outcome import Outcome
from cordee.domain.replica import UNKNOWN, Continuation, Signals
from cordee.flow.pool import Pool
from cordee.policy.overflow import NOTHING_READ, Mode, Overflow, OverflowRules, Readings, Signal, mode
from cordee.policy.replica import Replica, Want
from cordee.policy.retry import RetryBudget
from cordee.policy.spend import Price, Spend
from cordee.policy.window import Window
from cordee.ports import Clock
from cordee.wire import errors

log = logging.getLogger(__name__)
DAY_S = 86_400
REFUSED_MAX = 1024  # calls remembered that a provider would not take
SERVER_ERROR = 500  # statuses from here on are ours, not the caller's


@dataclass(eq=False, slots=True)
class Lane:
    """The way to one provider. `budget` is for calls that were tried before."""

    cloud: Cloud
    replica: Replica
    price: Price
    budget: RetryBudget


@dataclass(slots=True)
class Bill:
    """What one call has cost so far."""

    money: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0


class Outside:
    """One per gateway. `host`: what this host uses now. `utc_s`: the time of day that decides whose money it is. `write`: makes
    what was promised survive a crash, for a day and an amount."""

    def __init__(
        self, overflow: Overflow, window_s: float, spend: Spend, currency: str, pools: Mapping[str, Pool], clock: Clock,
        host: Callable[[], Signals], utc_s: Callable[[], float], write: Callable[[int, float], None],
    ) -> None:  # fmt: skip
        self.overflow = overflow
        self.window = Window(window_s)
        self.spend = spend
        self.currency = currency
        self.lanes: list[Lane] = []
        self.readings = NOTHING_READ
        self.spent: dict[str, float] = {}  # money by lane, over the life of this process
        self.calls: Counter[tuple[str, str]] = Counter()  # by lane and how they ended
        self._pools = pools
        self._clock = clock
        self._host = host
        self._utc_s = utc_s
        self._write = write
        self._reserved: dict[str, tuple[Lane, float]] = {}
        self._bills: dict[str, Bill] = {}
        self._refused: deque[tuple[str, str]] = deque(maxlen=REFUSED_MAX)  # lane and call

    def follow(self, rules: OverflowRules, cap: float) -> None:
        """From now on by these; what was spent today stays spent."""
        self.overflow.rules = rules
        self.spend.cap = cap

    # -- flow.pool.Gate

    def may_leave(self, call: Call) -> bool:
        return not call.local_only and any(may_take(call, lane.cloud.rules) for lane in self.lanes)

    def out(self, now: float, call: Call, want: Want, pool: Pool) -> Replica | None:
        if mode(self.overflow, has_local=_has_local(pool)) is Mode.CLOSED and not want.continues:
            return None
        for lane in self.lanes:
            if self._is_able(now, lane, call, want) and self._pays(now, lane, call, want):
                return lane.replica
        return None

    def _is_able(self, now: float, lane: Lane, call: Call, want: Want) -> bool:
        replica = lane.replica
        only = len(self.lanes) == 1
        return (
            replica.ready
            and replica.used + want.size.sequences <= replica.capacity.sequences
            and replica.rests_until_s <= now
            and replica.id not in want.never
            and (replica.id != want.avoid or (only and want.continues))
            and (not want.continues or replica.continues > Continuation.RESTART)
            and may_take(call, lane.cloud.rules)
            and replica.breaker.ask(now)
            and (replica.id, call.id) not in self._refused
        )

    def _pays(self, now: float, lane: Lane, call: Call, want: Want) -> bool:
        day = int(self._utc_s() // DAY_S)
        most = lane.price.of(*most_tokens(call, lane.cloud.rules))
        if not self.spend.reserve(day, most):
            return False
        if not want.anyway:
            lane.budget.first_attempt()
        elif not want.continues and not lane.budget.ask(now):
            self.spend.settle(day, most, 0.0)
            return False
        promised = self.spend.ahead()
        if promised is not None:
            self._write(self.spend.day, promised)
        self._reserved[call.id] = (lane, most)
        return True

    # -- what attempts cost

    def settle(self, call_id: str, tokens_in: int, tokens_out: int) -> None:
        lane, most = self._reserved.pop(call_id)
        cost = lane.price.of(tokens_in, tokens_out)
        self.spend.settle(int(self._utc_s() // DAY_S), most, cost)
        self.spent[lane.cloud.id] = self.spent.get(lane.cloud.id, 0.0) + cost
        bill = self._bills.setdefault(call_id, Bill())
        bill.money += cost
        bill.tokens_in += tokens_in
        bill.tokens_out += tokens_out

    def refused(self, replica_id: str, call_id: str) -> None:
        """This provider is not asked again for this call."""
        self._refused.append((replica_id, call_id))

    # -- what became of the calls

    def ended(self, now: float, outcome: Outcome) -> Outcome:
        """Every outcome passes here; one that was outside leaves with its bill."""
        bill = self._bills.pop(outcome.call_id, None)
        if not outcome.cloud:
            failed = outcome.why is not None and errors.STATUS[outcome.why] >= SERVER_ERROR
            self.window.note(now, failed=failed, first_s=outcome.first_token_s)
        else:
            self.calls[outcome.replica, outcome.end.value] += 1
        if bill is None:
            return outcome
        if not outcome.cloud:
            return replace(outcome, money=bill.money)
        return replace(outcome, money=bill.money, tokens_in=bill.tokens_in, tokens_out=bill.tokens_out)

    def tick(self) -> None:
        """Look at the signals; called about once a second."""
        now = self._clock.now()
        self.readings = self._read(now)
        before = self.overflow.alerts
        if self.overflow.note(self.readings):
            log.warning("overflow %s: %s", "begins" if self.overflow.is_on else "ends", _said(self.readings))
        for signal in self.overflow.alerts - before:
            log.warning("%s is high: %s", signal.value, _said(self.readings))
        for pool in self._pools.values():
            pool.spill()

    def close(self) -> None:
        """Write down what was really spent: after an orderly end nothing counts that was only promised."""
        self._write(self.spend.day, self.spend.spent + self.spend.reserved)

    def _read(self, now: float) -> Readings:
        host = self._host()
        loads = [
            pool.loads[replica.id]
            for pool in self._pools.values()
            for replica in pool.seats.replicas
            if replica.ready and replica.id in pool.loads
        ]
        failed = self.window.failed_share(now)
        enough = self.window.calls(now) >= self.overflow.rules.calls_min
        return Readings(
            _highest(host.cpu, [load.cpu for load in loads]),
            _highest(host.memory, [load.memory for load in loads]),
            _highest(host.gpu, [load.gpu for load in loads]),
            self.window.first_token_s(now),
            100.0 * failed if failed is not None and enough else None,
        )


class LaneAccount:
    """Account of one provider: what it says about calls is kept by its lane."""

    def __init__(self, outside: Outside, clock: Clock) -> None:
        self._outside = outside
        self._clock = clock
        self.lane: Lane | None = None  # set once the provider is there

    def settle(self, call_id: str, tokens_in: int, tokens_out: int) -> None:
        self._outside.settle(call_id, tokens_in, tokens_out)

    def refused(self, call_id: str) -> None:
        assert self.lane is not None
        self._outside.refused(self.lane.replica.id, call_id)

    def rest(self, for_s: float) -> None:
        assert self.lane is not None
        self.lane.replica.rest(self._clock.now() + for_s)


def _has_local(pool: Pool) -> bool:
    """Whether anybody in the house can be asked."""
    router = pool.seats.router
    return any(replica.ready and not router.is_shut(replica) for replica in pool.seats.replicas)


def _highest(own: int, others: Iterable[int]) -> float | None:
    """This host's, or the mean of the workers' hosts where that is higher: one busy worker does not make a full house."""
    known = [value for value in others if value != UNKNOWN]
    mean = sum(known) / len(known) if known else None
    if own == UNKNOWN:
        return mean
    return float(own) if mean is None else max(float(own), mean)


def _said(readings: Readings) -> str:
    values = ((signal, readings.of(signal)) for signal in Signal)
    return ", ".join(f"{signal.value} {value:.3g}" for signal, value in values if value is not None)
