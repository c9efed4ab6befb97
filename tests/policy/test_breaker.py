from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.breaker import JITTER, Breaker, BreakerRules

RULES = BreakerRules(failures=3, open_s=1.0, open_s_max=30.0)
MIDDLE = 0.5  # noise that changes no pause


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(RULES)
    for _ in range(RULES.failures):
        breaker.failed(now, MIDDLE)
    return breaker


def test_it_opens_at_the_third_fault_in_a_row():
    breaker = Breaker(RULES)
    breaker.failed(0.0, MIDDLE)
    breaker.failed(0.0, MIDDLE)
    assert breaker.is_closed
    assert breaker.ask(0.0)
    breaker.failed(0.0, MIDDLE)
    assert not breaker.is_closed
    assert not breaker.ask(0.0)


def test_a_success_between_faults_keeps_it_closed():
    breaker = Breaker(RULES)
    for _ in range(10):
        breaker.failed(0.0, MIDDLE)
        breaker.failed(0.0, MIDDLE)
        breaker.succeeded()
    assert breaker.is_closed


def test_what_says_nothing_about_the_replica_changes_nothing():
    breaker = Breaker(RULES)
    for _ in range(1000):
        breaker.ended_neutrally()
    assert breaker.is_closed
    breaker.failed(0.0, MIDDLE)
    breaker.ended_neutrally()
    breaker.failed(0.0, MIDDLE)
    breaker.failed(0.0, MIDDLE)
    assert not breaker.is_closed, "a neutral end is no success either"


def test_after_the_pause_exactly_one_probe_is_let_through():
    breaker = opened()
    assert not breaker.ask(0.999)
    assert breaker.ask(1.0)
    breaker.began()
    assert not breaker.ask(1.0)
    assert not breaker.ask(1000.0), "not a second one, however long the first takes"


def test_a_probe_that_succeeds_closes_it():
    breaker = opened()
    breaker.began()
    breaker.succeeded()
    assert breaker.is_closed
    assert breaker.ask(1.0)


def test_a_probe_that_says_nothing_is_given_back():
    breaker = opened()
    breaker.began()
    breaker.ended_neutrally()
    assert breaker.ask(1.0)


def test_each_failed_probe_doubles_the_pause_up_to_its_limit():
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(8):
        pause = next(step / 4 for step in range(1, 1000) if breaker.ask(now + step / 4))
        pauses.append(pause)
        now += pause
        breaker.began()
        breaker.failed(now, MIDDLE)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_after_a_recovery_the_pause_starts_small_again():
    breaker = opened()
    breaker.began()
    breaker.failed(1.0, MIDDLE)
    breaker.began()
    breaker.succeeded()
    for _ in range(RULES.failures):
        breaker.failed(10.0, MIDDLE)
    assert breaker.ask(11.0)


def test_fifty_calls_ended_by_one_crash_are_one_reason_to_pause():
    breaker = Breaker(RULES)
    for _ in range(50):
        breaker.failed(0.0, MIDDLE)
    assert breaker.ask(RULES.open_s)


@pytest.mark.parametrize(("noise", "pause"), [(0.0, 1 - JITTER), (0.5, 1.0), (1.0, 1 + JITTER)])
def test_noise_spreads_the_pause(noise, pause):
    breaker = Breaker(RULES)
    for _ in range(RULES.failures):
        breaker.failed(0.0, noise)
    assert not breaker.ask(pause - 1e-6)
    assert breaker.ask(pause + 1e-6)


@given(st.lists(st.tuples(st.sampled_from(["failed", "succeeded", "neutral", "began"]), st.floats(0, 5)), max_size=60))
def test_it_never_shuts_a_replica_out_for_longer_than_its_longest_pause(steps):
    breaker, now = Breaker(RULES), 0.0
    probing = False
    for step, passed in steps:
        now += passed
        match step:
            case "failed":
                breaker.failed(now, 1.0)
                probing = False
            case "succeeded":
                breaker.succeeded()
                probing = False
            case "neutral":
                breaker.ended_neutrally()
                probing = False
            case _:
                if breaker.ask(now):
                    breaker.began()
                    probing = not breaker.is_closed
    assert probing or breaker.ask(now + RULES.open_s_max * (1 + JITTER))
