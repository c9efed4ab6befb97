"""The meters of one key or one tenant: what each counts, in which unit, and what is said when it has no room."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from enum import Enum

from cordee.domain.caller import Allowances
from cordee.domain.outcome import Refusal, Why
from cordee.policy.lease import Leased
from cordee.policy.rate import Meter

MICRO = 1_000_000  # money is counted in millionths, as whole numbers


class Unit(Enum):
    """What a meter counts."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    CALLS = "calls"
    MONEY = "money"


class Counted:
    """One meter of a purse. `limit` is that of the installation, of which the meter may keep a share; `what` names it in
    messages; `is_budget`: of a period, not of a minute."""

    __slots__ = ("is_budget", "limit", "meter", "unit", "what")

    def __init__(self, unit: Unit, meter: Meter, limit: float, what: str, *, is_budget: bool = False) -> None:
        self.unit = unit
        self.meter = meter
        self.limit = limit
        self.what = what
        self.is_budget = is_budget


Make = Callable[[float, str, float], Meter]  # as of now; which limit ("requests", "calls", "tokens/day" …); how much


class Purse:
    """`who` begins the messages: "this key", "the tenant 'sales'". `gateways` share the limits of meters that are not leased."""

    __slots__ = ("_by_name", "_gateways", "_make", "allowances", "counted", "who")

    def __init__(self, now: float, who: str, allowances: Allowances, make: Make, gateways: int = 1) -> None:
        self.who = who
        self._make = make
        self._gateways = gateways
        self._by_name: dict[str, Counted] = {}
        self.allowances = allowances
        self.counted: tuple[Counted, ...] = ()
        self.allow(now, allowances)

    def allow(self, now: float, allowances: Allowances) -> None:
        """The limits are these from now on; what was used of those that stay is still used."""
        self.allowances = allowances
        before, self._by_name = self._by_name, {}
        for name, unit, limit, what in _limits(allowances):
            counted = before.get(name)
            if counted is None:
                counted = Counted(unit, self._make(now, name, limit), limit, what, is_budget="/" in name)
            elif counted.limit != limit:
                meter = counted.meter
                meter.relimit(now, limit if isinstance(meter, Leased) else share(limit, self._gateways, unit))
                counted.limit, counted.what = limit, what
            self._by_name[name] = counted
        self.counted = tuple(self._by_name.values())

    def refusal(self, now: float, tokens: float, only: Unit | None = None) -> Refusal | None:
        """The no that lasts longest, if there is one. Nothing is taken. `only`: nothing else is asked for."""
        worst: Counted | None = None
        worst_s = 0.0
        for counted in self.counted:
            if only is not None and counted.unit is not only:
                continue
            lacks_s = counted.meter.lacks_s(now, _amount(counted.unit, tokens))
            if lacks_s > worst_s:
                worst, worst_s = counted, lacks_s
        if worst is None:
            return None
        if worst.unit is Unit.CALLS:
            message = f"{self.who} may have {worst.what}; wait for one to end"
            return Refusal(Why.CONCURRENCY, message, retry_after_s=worst_s)
        used_up = "; its budget is used up until the next period begins" if worst.is_budget else ""
        why = Why.BUDGET if worst.is_budget else Why.RATE
        return Refusal(why, f"{self.who} may use {worst.what}{used_up}", retry_after_s=worst_s)

    def take(self, now: float, tokens: float, only: Unit | None = None) -> None:
        for counted in self.counted:
            if only is not None and counted.unit is not only:
                continue
            counted.meter.take(now, _amount(counted.unit, tokens))

    def settle(self, now: float, reserved: float, used: float, money: float, *, began: bool) -> None:
        """The call has ended. `began` False: nobody worked on it, and it does not count as a request."""
        for counted in self.counted:
            meter = counted.meter
            match counted.unit:
                case Unit.TOKENS:
                    _correct(meter, now, used - reserved)
                case Unit.CALLS:
                    meter.give(now, 1)
                case Unit.REQUESTS:
                    if not began:
                        meter.give(now, 1)
                case Unit.MONEY:
                    _correct(meter, now, math.ceil(money * MICRO))

    def meters(self) -> Iterator[Meter]:
        for counted in self.counted:
            yield counted.meter

    def tightest(self, now: float, unit: Unit) -> Meter | None:
        """Of this unit, the one of which the smallest share is left: of a minute's if there are such, else of a period's."""
        of_unit = [counted for counted in self.counted if counted.unit is unit]
        of_minute = [counted.meter for counted in of_unit if not counted.is_budget]
        meters = of_minute or [counted.meter for counted in of_unit]
        return min(meters, key=lambda meter: meter.remaining(now) / meter.limit, default=None)

    def is_unused(self, now: float) -> bool:
        return all(counted.meter.is_unused(now) for counted in self.counted)


def share(limit: float, gateways: int, unit: Unit) -> float:
    """What one of so many gateways may use by itself: at least one call of it."""
    part = max(1.0, limit / gateways)
    return math.floor(part) if unit is Unit.CALLS else part


def _amount(unit: Unit, tokens: float) -> float:
    """What a call takes before anybody knows what it will use. Its price is not known: money needs something left."""
    return tokens if unit is Unit.TOKENS else 0.0 if unit is Unit.MONEY else 1.0


def _correct(meter: Meter, now: float, more: float) -> None:
    if more > 0:
        meter.take(now, more)
    elif more < 0:
        meter.give(now, -more)


def _limits(allowances: Allowances) -> Iterator[tuple[str, Unit, float, str]]:
    """(name, unit, limit, words) of every limit there is."""
    if (limit := allowances.requests_per_minute) is not None:
        yield "requests", Unit.REQUESTS, limit, f"{limit} requests per minute"
    if (limit := allowances.tokens_per_minute) is not None:
        yield "tokens", Unit.TOKENS, limit, f"{limit} tokens per minute"
    if (limit := allowances.concurrent_calls) is not None:
        yield "calls", Unit.CALLS, limit, f"{limit} calls open at once"
    for budget in allowances.budgets:
        period = budget.period.value
        if budget.tokens is not None:
            yield f"tokens/{period}", Unit.TOKENS, budget.tokens, f"{budget.tokens} tokens per {period}"
        if budget.money is not None:
            yield f"money/{period}", Unit.MONEY, budget.money * MICRO, f"{budget.money:g} in money per {period}"
