from __future__ import annotations

from array import array
from dataclasses import replace

import pytest

from cordee.domain.call import Call, Work
from cordee.domain.caller import Allowances, Budget, Caller, Period
from cordee.domain.outcome import End, Outcome, Refusal, Why
from cordee.gateway.limits.allow import FREE, Allow, Allowance, AllowRules
from cordee.policy.budget import Calendar
from cordee.policy.lease import Leased, LeaseRules

NOON_S = 43_200.0
CONTEXT = 4096


def allow_of(gateways: int = 1, leases: LeaseRules | None = None) -> Allow:
    return Allow(AllowRules(gateways, 512, leases), Calendar(0.0, NOON_S), {"m": CONTEXT})


def caller(
    own: Allowances | None = None, shared: Allowances | None = None, key: str = "k", tenant: str = "t"
) -> Caller:
    return Caller(key, tenant, allowances=own or Allowances(), shared=shared or Allowances())


def call(prompt: int = 10, max_tokens: int = 90, n: int = 1, body: bytes = b"") -> Call:
    work = Work(array("I", [1] * prompt), max_tokens, n) if not body else None
    return Call("c", "m", "t", "/v1/completions", False, 0.0, work=work, body=body)


def served(tokens_in: int, tokens_out: int, money: float = 0.0, end: End = End.SERVED, attempts: int = 1) -> Outcome:
    return Outcome("c", end, "m", "t", attempts=attempts, tokens_in=tokens_in, tokens_out=tokens_out, money=money)


def taken(allow: Allow, who: Caller, what: Call | None = None, now: float = 0.0) -> Allowance:
    got = allow.ask(now, who, what or call())
    assert isinstance(got, Allowance), got
    return got


def refused(allow: Allow, who: Caller, what: Call | None = None, now: float = 0.0) -> Refusal:
    got = allow.ask(now, who, what or call())
    assert isinstance(got, Refusal)
    return got


def test_a_key_without_limits_costs_nothing_and_says_nothing():
    allow = allow_of()
    assert allow.ask(0.0, caller(), call()) is FREE
    allow.settle(0.0, FREE, served(1, 1))
    assert len(allow) == 0
    assert allow.headers(0.0, caller()) == b""


def test_requests_per_minute_are_exact():
    allow, who = allow_of(), caller(Allowances(requests_per_minute=60))
    for _ in range(15):
        taken(allow, who)
    no = refused(allow, who)
    assert no.why is Why.RATE
    assert "60 requests per minute" in no.message
    assert no.retry_after_s == pytest.approx(1.0)
    taken(allow, who, now=1.01)


def test_tokens_are_reserved_before_and_settled_after():
    allow, who = allow_of(), caller(Allowances(tokens_per_minute=250))
    first = taken(allow, who)
    taken(allow, who)
    no = refused(allow, who)
    assert no.why is Why.RATE
    assert "250 tokens per minute" in no.message
    allow.settle(0.0, first, served(10, 20))
    taken(allow, who)


def test_choices_are_reserved_for_each():
    allow, who = allow_of(), caller(Allowances(tokens_per_minute=1000))
    assert taken(allow, who, call(10, 90, n=3)).tokens == 280


def test_what_nobody_asked_for_is_not_reserved_whole():
    allow, who = allow_of(), caller(Allowances(tokens_per_minute=100_000))
    assert taken(allow, who, call(10, CONTEXT - 10)).tokens == 10 + 1024


def test_more_than_was_reserved_is_owed():
    allow, who = allow_of(), caller(Allowances(tokens_per_minute=100))
    got = taken(allow, who, call(50, 50))
    allow.settle(0.0, got, served(50, 150))
    assert refused(allow, who, call(1, 1)).retry_after_s == pytest.approx(61.2, abs=0.5)


def test_a_call_that_nobody_worked_on_gives_everything_back():
    allow, who = allow_of(), caller(Allowances(requests_per_minute=4, tokens_per_minute=100, concurrent_calls=1))
    got = taken(allow, who)
    allow.settle(0.0, got, served(10, 0, end=End.REFUSED, attempts=0))
    got = taken(allow, who)
    allow.settle(0.0, got, served(10, 90))
    refused(allow, who)


def test_a_forwarded_answer_that_says_nothing_counts_as_estimated():
    allow, who = allow_of(), caller(Allowances(tokens_per_minute=2000))
    got = taken(allow, who, call(body=b"x" * 400))
    assert got.tokens == 101 + 1024
    allow.settle(0.0, got, served(0, 0))
    refused(allow, who, call(body=b"x" * 400))


def test_calls_at_once_come_back():
    allow, who = allow_of(), caller(Allowances(concurrent_calls=2))
    first = taken(allow, who)
    taken(allow, who)
    no = refused(allow, who)
    assert no.why is Why.CONCURRENCY
    assert "2 calls open at once" in no.message
    allow.settle(0.0, first, served(1, 1, end=End.ABANDONED))
    taken(allow, who)


def test_a_refusal_by_one_limit_takes_nothing_of_the_others():
    allow = allow_of()
    who = caller(Allowances(requests_per_minute=60), shared=Allowances(concurrent_calls=1))
    taken(allow, who)
    for _ in range(50):
        refused(allow, who)
    assert b"x-ratelimit-remaining-requests: 14\r\n" in allow.headers(0.0, who)


def test_keys_of_a_tenant_share_what_is_the_tenants():
    allow, shared = allow_of(), Allowances(requests_per_minute=8)
    a, b = caller(shared=shared, key="a"), caller(shared=shared, key="b")
    taken(allow, a)
    taken(allow, b)
    no = refused(allow, a)
    assert "all keys of the tenant 't' together" in no.message
    taken(allow, caller(shared=shared, key="c", tenant="another"))


def test_a_budget_of_tokens_is_for_its_period():
    allow, who = allow_of(), caller(Allowances(budgets=(Budget(Period.DAY, tokens=200),)))
    for _ in range(2):
        allow.settle(0.0, taken(allow, who), served(10, 90))
    no = refused(allow, who)
    assert no.why is Why.BUDGET
    assert no.retry_after_s == pytest.approx(NOON_S, abs=1)
    taken(allow, who, now=NOON_S + 1)


def test_a_budget_of_money_ends_when_it_is_spent():
    allow, who = allow_of(), caller(Allowances(budgets=(Budget(Period.MONTH, money=1.0),)))
    allow.settle(0.0, taken(allow, who), served(10, 90, money=0.6))
    allow.settle(0.0, taken(allow, who), served(10, 90, money=0.6))
    no = refused(allow, who)
    assert no.why is Why.BUDGET
    assert "1 in money per month" in no.message


def test_answers_say_what_is_left():
    allow, who = allow_of(), caller(Allowances(requests_per_minute=60, tokens_per_minute=6000))
    lines = taken(allow, who).headers.decode().split("\r\n")
    assert lines[:6] == [
        "x-ratelimit-limit-requests: 60", "x-ratelimit-remaining-requests: 14", "x-ratelimit-reset-requests: 1s",
        "x-ratelimit-limit-tokens: 6000", "x-ratelimit-remaining-tokens: 5900", "x-ratelimit-reset-tokens: 1s",
    ]  # fmt: skip


def test_the_tighter_of_key_and_tenant_is_said():
    allow = allow_of()
    who = caller(Allowances(requests_per_minute=600), shared=Allowances(requests_per_minute=60))
    assert b"limit-requests: 60\r\n" in taken(allow, who).headers


def test_new_limits_are_in_force_at_once_and_what_was_used_stays_used():
    allow = allow_of()
    for _ in range(15):
        taken(allow, caller(Allowances(requests_per_minute=60)))
    raised = caller(Allowances(requests_per_minute=120))
    for _ in range(15):
        taken(allow, raised)
    refused(allow, raised)
    taken(allow, caller(Allowances(concurrent_calls=5)))


def test_several_gateways_without_a_store_keep_their_shares():
    allow, who = allow_of(gateways=4), caller(Allowances(requests_per_minute=60, concurrent_calls=4))
    taken(allow, who)
    assert refused(allow, who).why is Why.CONCURRENCY


def test_with_a_store_meters_are_leased_and_wanted():
    wanted: list[Leased] = []
    allow = allow_of(gateways=2, leases=LeaseRules(2))
    allow.wanted = wanted.append
    who = caller(Allowances(60, 4, 6000, (Budget(Period.DAY, 1000, 1.0),)))
    allow.settle(0.0, taken(allow, who), served(1, 1))
    assert len(set(map(id, wanted))) == 5


def test_meters_that_say_nothing_any_more_are_forgotten():
    allow = allow_of()
    for n in range(1000):
        who = caller(Allowances(requests_per_minute=60, concurrent_calls=2), key=f"k{n}")
        allow.settle(0.0, taken(allow, who), served(1, 1))
    allow.sweep(0.5)
    assert len(allow) == 1000
    allow.sweep(120.0)
    assert len(allow) == 0


def test_a_budget_is_not_forgotten_before_its_period_is_over():
    allow, who = allow_of(), caller(Allowances(budgets=(Budget(Period.DAY, tokens=100),)))
    allow.settle(0.0, taken(allow, who), served(10, 90))
    allow.sweep(1000.0)
    refused(allow, who, now=1000.0)
    allow.sweep(NOON_S + 1)
    assert len(allow) == 0


def test_a_caller_knows_whether_it_has_limits():
    assert not caller().is_limited
    assert caller(Allowances(concurrent_calls=1)).is_limited
    assert caller(shared=Allowances(concurrent_calls=1)).is_limited
    assert replace(caller(), tenant="x").is_limited is False
