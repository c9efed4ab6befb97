from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.retry import BURST_S, RetryBudget, RetryRules


@given(
    st.floats(0, 1), st.floats(0, 50),
    st.lists(st.tuples(st.booleans(), st.floats(0, 0.5)), max_size=300),
)  # fmt: skip
def test_retries_are_bounded_by_first_attempts_time_and_burst(ratio, per_s, steps):
    budget, now, firsts, retries = RetryBudget(RetryRules(ratio, per_s), 0.0), 0.0, 0, 0
    for is_first, passed in steps:
        now += passed
        if is_first:
            budget.first_attempt()
            firsts += 1
        elif budget.ask(now):
            retries += 1
        assert retries <= max(1.0, per_s * BURST_S) + ratio * firsts + per_s * now + 1e-6


def test_when_everything_fails_attempts_stay_near_the_ratio():
    budget, attempts, calls = RetryBudget(RetryRules(ratio=0.1, per_s=10.0), 0.0), 0, 100_000
    for number in range(calls):
        budget.first_attempt()
        attempts += 1
        while budget.ask(number / 10_000):  # ten thousand calls a second, all of them failing
            attempts += 1
    assert attempts <= 1.105 * calls


def test_a_spent_budget_comes_back_with_time():
    budget = RetryBudget(RetryRules(ratio=0.0, per_s=2.0), 0.0)
    while budget.ask(0.0):
        pass
    assert not budget.ask(0.4)
    assert budget.ask(0.5)


def test_a_clock_that_stands_still_gives_nothing():
    budget = RetryBudget(RetryRules(ratio=0.0, per_s=1.0), 0.0)
    assert sum(budget.ask(0.0) for _ in range(100)) == BURST_S


def test_without_a_floor_there_is_one_retry_to_begin_with():
    budget = RetryBudget(RetryRules(ratio=0.1, per_s=0.0), 0.0)
    assert budget.ask(0.0)
    assert not budget.ask(1e9)
    for _ in range(11):
        budget.first_attempt()
    assert budget.ask(1e9)
