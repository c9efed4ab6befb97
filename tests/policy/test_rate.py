from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cordee.domain.caller import Allowances, Caller
from cordee.domain.outcome import Why
from cordee.policy.rate import BURST_SHARE, MINUTE_S, Rates


def caller(rpm: int | None = None, calls: int | None = None, key: str = "k") -> Caller:
    return Caller(key, "t", allowances=Allowances(rpm, calls))


def test_without_limits_nothing_is_refused():
    rates = Rates()
    assert all(rates.ask(0.0, caller()) is None for _ in range(10_000))


def test_a_quarter_of_a_minute_may_come_at_once():
    rates = Rates()
    passed = sum(rates.ask(0.0, caller(rpm=60)) is None for _ in range(60))
    assert passed == 60 * BURST_SHARE


def test_one_request_a_minute_is_possible():
    rates = Rates()
    assert rates.ask(0.0, caller(rpm=1)) is None
    refused = rates.ask(0.0, caller(rpm=1))
    assert refused is not None
    assert refused.why is Why.RATE
    assert refused.retry_after_s == MINUTE_S
    assert rates.ask(MINUTE_S, caller(rpm=1)) is None


def test_keys_do_not_share_their_limits():
    rates = Rates()
    assert rates.ask(0.0, caller(rpm=1, calls=1, key="a")) is None
    assert rates.ask(0.0, caller(rpm=1, calls=1, key="b")) is None


def test_calls_at_once_are_limited_until_one_ends():
    rates, two = Rates(), caller(calls=2)
    assert [rates.ask(0.0, two) for _ in range(2)] == [None, None]
    refused = rates.ask(0.0, two)
    assert refused is not None
    assert refused.why is Why.CONCURRENCY
    assert refused.retry_after_s
    rates.left(two)
    assert rates.ask(0.0, two) is None


def test_a_call_refused_for_its_rate_takes_no_place_among_those_open():
    rates, one = Rates(), caller(rpm=1, calls=1)
    assert rates.ask(0.0, one) is None
    rates.left(one)
    assert rates.ask(1.0, one) is not None
    assert rates.ask(MINUTE_S + 1.0, one) is None


@given(st.integers(1, 600), st.lists(st.floats(0, 5), max_size=200))
def test_no_minute_holds_more_than_its_share_and_the_burst(rpm, gaps):
    rates, who, now, passed = Rates(), caller(rpm=rpm), 0.0, []
    for gap in gaps:
        now += gap
        if rates.ask(now, who) is None:
            passed.append(now)
    for start in passed:
        assert sum(start <= at < start + MINUTE_S for at in passed) <= rpm + max(1, rpm * BURST_SHARE) + 1


@given(st.integers(1, 600), st.lists(st.floats(0, 2), max_size=100))
def test_whoever_waits_as_long_as_told_is_served(rpm, gaps):
    rates, who, now = Rates(), caller(rpm=rpm), 0.0
    for gap in gaps:
        now += gap
        refused = rates.ask(now, who)
        if refused is not None:
            assert refused.retry_after_s is not None
            assert refused.retry_after_s > 0
            now += refused.retry_after_s + 1e-6
            assert rates.ask(now, who) is None
