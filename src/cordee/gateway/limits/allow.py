"""Decides whether a caller may spend what a call asks for, and settles what it used.

A call of a key without limits costs one look at an attribute. Any other takes, from the meters of its key and of its tenant,
one request, one call at once, and the tokens it may come to; what it did not use goes back when it has ended. With one gateway
and no store the meters are exact and here; with a store they are leased in slices (policy.lease); with several gateways and no
store each keeps its share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from cordee.domain.call import Call
from cordee.domain.caller import UNLIMITED, Allowances, Caller, Period
from cordee.domain.outcome import End, Outcome, Refusal
from cordee.gateway.limits.purse import Purse, Unit, share
from cordee.policy.budget import Calendar, Window
from cordee.policy.lease import Kind, Leased, LeaseRules
from cordee.policy.rate import BURST_SHARE, AtOnce, Bucket, Meter
from cordee.wire import ratelimit

GUESS_WEIGHT = 0.1  # of one answer in the running guess of how long an answer is
GUESS_FACTOR = 2.0  # answers differ: twice the mean is rarely exceeded


@dataclass(frozen=True, slots=True)
class AllowRules:
    """`output_tokens_guess`: what the answer to a call that does not say is taken to need, until calls have ended."""

    gateways: int = 1
    output_tokens_guess: int = 512
    leases: LeaseRules | None = None  # None: no store to lease from


class Allowance:
    """What one call has taken. `headers`: what its answer says about the limits."""

    __slots__ = ("headers", "purses", "tokens")

    def __init__(self, purses: tuple[Purse, ...], tokens: float, headers: bytes) -> None:
        self.purses = purses
        self.tokens = tokens
        self.headers = headers


FREE = Allowance((), 0.0, b"")


class Allow:
    """One per gateway. `contexts`: the longest prompt plus answer of each own model, to tell an answer's length that was asked
    for from one that nobody asked for. `wanted` is called with leased meters that calls use."""

    def __init__(self, rules: AllowRules, calendar: Calendar, contexts: Mapping[str, int] | None = None) -> None:
        self.rules = rules
        self.calendar = calendar
        self.wanted: Callable[[Leased], None] = lambda meter: None
        self._contexts = contexts or {}
        self._purses: dict[tuple[str, str], Purse] = {}
        self._guess = float(rules.output_tokens_guess)

    def ask(self, now: float, caller: Caller, call: Call) -> Allowance | Refusal:
        if not caller.is_limited:
            return FREE
        purses = self._of(now, caller)
        tokens = self._estimate(call)
        worst: Refusal | None = None
        for purse in purses:
            refused = purse.refusal(now, tokens)
            if refused is not None and (worst is None or (refused.retry_after_s or 0) > (worst.retry_after_s or 0)):
                worst = refused
        if worst is None:
            for purse in purses:
                purse.take(now, tokens)
        for purse in purses:
            for meter in purse.meters():
                if isinstance(meter, Leased):
                    self.wanted(meter)
        return Allowance(purses, tokens, _headers(now, purses)) if worst is None else worst

    def count(self, now: float, caller: Caller) -> Refusal | None:
        """One request that is no call: of the limits only those on requests know of it."""
        if not caller.is_limited:
            return None
        purses = self._of(now, caller)
        refused = [one for purse in purses if (one := purse.refusal(now, 0.0, Unit.REQUESTS)) is not None]
        if not refused:
            for purse in purses:
                purse.take(now, 0.0, Unit.REQUESTS)
        for purse in purses:
            for meter in purse.meters():
                if isinstance(meter, Leased):
                    self.wanted(meter)
        return max(refused, key=lambda one: one.retry_after_s or 0.0, default=None)

    def headers(self, now: float, caller: Caller) -> bytes:
        """What a refusal says about the limits."""
        return _headers(now, self._of(now, caller)) if caller.is_limited else b""

    def settle(self, now: float, allowance: Allowance, outcome: Outcome) -> None:
        """The call has ended. Whoever was allowed is settled once, however the call ended."""
        if allowance is FREE:
            return
        began = outcome.attempts > 0
        used = float(outcome.tokens_in + outcome.tokens_out) if began else 0.0
        if began and not used and outcome.end is End.SERVED:
            used = allowance.tokens  # of another server, which did not say what it counted
        if outcome.end is End.SERVED and outcome.tokens_out:
            self._guess += GUESS_WEIGHT * (outcome.tokens_out - self._guess)
        for purse in allowance.purses:
            purse.settle(now, allowance.tokens, used, outcome.money, began=began)
            for meter in purse.meters():
                if isinstance(meter, Leased):
                    self.wanted(meter)

    def sweep(self, now: float) -> None:
        """Forget the meters that say nothing any more; about once a minute."""
        for at in [at for at, purse in self._purses.items() if purse.is_unused(now)]:
            del self._purses[at]

    def meters(self) -> Iterator[Meter]:
        for purse in self._purses.values():
            yield from purse.meters()

    def __len__(self) -> int:
        return len(self._purses)

    def _of(self, now: float, caller: Caller) -> tuple[Purse, ...]:
        own, shared = caller.allowances, caller.shared
        if shared is UNLIMITED or shared == UNLIMITED:
            return (self._purse(now, ("key", caller.key_id), own),)
        tenant = self._purse(now, ("tenant", caller.tenant), shared)
        return (tenant,) if own == UNLIMITED else (self._purse(now, ("key", caller.key_id), own), tenant)

    def _purse(self, now: float, at: tuple[str, str], allowances: Allowances) -> Purse:
        purse = self._purses.get(at)
        if purse is None:
            kind, name = at
            who = "this key" if kind == "key" else f"all keys of the tenant {name!r} together"

            def make(made: float, limit: str, amount: float) -> Meter:
                return self._meter(made, at, limit, amount)

            purse = self._purses[at] = Purse(now, who, allowances, make, self.rules.gateways)
        elif purse.allowances is not allowances and purse.allowances != allowances:
            purse.allow(now, allowances)
        return purse

    def _meter(self, now: float, at: tuple[str, str], name: str, limit: float) -> Meter:
        rules = self.rules
        unit, _, period = name.partition("/")
        part = share(limit, rules.gateways, Unit(unit))
        meter: Meter
        if name == "calls":
            kind, meter = Kind.HELD, AtOnce(part)
        elif period:
            kind, meter = Kind.WINDOW, Window(now, part, Period(period), self.calendar)
        else:
            burst = BURST_SHARE if name == "requests" else 1.0  # a minute's tokens may come at once, as calls are large
            kind, meter = Kind.BUCKET, Bucket(now, part, burst)
        if rules.leases is None:
            return meter
        return Leased(now, f"{at[0]}:{at[1]}:{name}", kind, meter, limit, rules.leases)

    def _estimate(self, call: Call) -> float:
        """Tokens to reserve: the prompt and what the answer may come to."""
        work = call.work
        if work is None:
            return call.cost + GUESS_FACTOR * self._guess
        if work.items:
            return float(work.tokens_in)
        context = self._contexts.get(call.model, 0)
        if context and len(work.prompt) + work.max_tokens >= context:  # nobody asked for so much
            return len(work.prompt) + work.n * min(float(work.max_tokens), GUESS_FACTOR * self._guess)
        return float(len(work.prompt) + work.n * work.max_tokens)


def _headers(now: float, purses: tuple[Purse, ...]) -> bytes:
    lines = b""
    for unit in (Unit.REQUESTS, Unit.TOKENS):
        tightest = [meter for purse in purses if (meter := purse.tightest(now, unit)) is not None]
        if tightest:
            meter = min(tightest, key=lambda one: one.remaining(now) / one.limit)
            lines += ratelimit.lines(unit.value, meter.limit, meter.remaining(now), meter.reset_s(now))
    return lines
