from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.breaker import JITTER, Breaker, BreakerRules

RULES = BreakerRules(failures=3, open_s=1.0, open_s_max=30.0)
MIDDLE = 0.5  # noise that changes no pause


def opened(now: float = 0.0, rules: BreakerRules = RULES) -> Breaker:
    breaker = Breaker(rules)
    for _ in range(RULES.failures):
        breaker.failed(now, MIDDLE)
    return breaker


def ends(breaker: Breaker, now: float, *, good: int = 0, bad: int = 0, tenants: int = 1, calls: int = 1000) -> None:
    """So many ends, good and bad ones mixed, from so many callers."""
    for number in range(max(good, bad)):
        if number < good:
            breaker.succeeded(breaker.number, f"tenant-{number % tenants}")
        if number < bad:
            tenant, call = f"tenant-{number % tenants}", f"call-{number % calls}"
            breaker.failed(now, MIDDLE, breaker.number, call=call, tenant=tenant, ran=True)


def test_it_opens_at_the_third_fault_in_a_row():
    breaker = Breaker(RULES)
    breaker.failed(0.0, MIDDLE)
    breaker.failed(0.0, MIDDLE)
    assert breaker.is_closed
    assert breaker.ask(0.0)
    breaker.failed(0.0, MIDDLE)
    assert not breaker.is_closed
    assert not breaker.ask(0.0)


def test_a_success_between_faults_keeps_it_closed_while_they_are_few():
    breaker = Breaker(RULES)
    for round in range(10):
        breaker.failed(round * 4.0, MIDDLE)
        breaker.failed(round * 4.0, MIDDLE)
        breaker.succeeded()
    assert breaker.is_closed


def test_half_of_ten_attempts_open_it_if_they_are_of_three_calls():
    breaker = Breaker(RULES)
    ends(breaker, 0.0, good=5, bad=4, tenants=2)
    assert breaker.is_closed
    ends(breaker, 1.0, bad=2)
    assert not breaker.is_closed


def test_many_good_ends_outweigh_a_few_faults():
    breaker = Breaker(RULES)
    for _ in range(40):
        ends(breaker, 0.0, good=3, bad=1, tenants=3)
    assert breaker.is_closed


def test_faults_of_one_tenant_do_not_shut_a_replica_out_for_the_others():
    breaker = Breaker(RULES)
    for number in range(200):
        breaker.failed(0.01 * number, MIDDLE, breaker.number, call=f"bad-{number}", tenant="bad", ran=True)
        breaker.succeeded(breaker.number, "good")
    assert breaker.is_closed


def test_where_only_one_tenant_calls_its_faults_count():
    breaker = Breaker(RULES)
    ends(breaker, 0.0, good=6, bad=6)
    assert not breaker.is_closed


def test_faults_of_one_call_in_a_row_count_once():
    breaker = Breaker(RULES)
    for _ in range(9):
        breaker.failed(0.0, MIDDLE, breaker.number, call="poison", tenant="t", ran=True)
    assert breaker.is_closed


def test_refused_connections_count_whatever_the_call():
    breaker = Breaker(RULES)
    for _ in range(3):
        breaker.failed(0.0, MIDDLE, breaker.number, call="c", tenant="t", ran=False)
    assert not breaker.is_closed


def test_the_window_forgets():
    breaker = Breaker(RULES)
    for second in range(0, 100, 11):
        ends(breaker, float(second), good=1, bad=2, tenants=2)
    assert breaker.is_closed, "two of three, but never ten within a window"


def test_what_says_nothing_about_the_replica_changes_nothing():
    breaker = Breaker(RULES)
    for _ in range(1000):
        breaker.ended_neutrally(breaker.number)
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
    breaker.began(1.0)
    assert not breaker.ask(1.0)
    assert not breaker.ask(1000.0), "not a second one, however long the first takes"


def test_a_synthetic_call_may_go_first():
    breaker = opened(rules=BreakerRules(canary_first_s=0.5))
    assert breaker.wants_probe(1.0)
    assert not breaker.ask(1.4)
    assert breaker.ask(1.5), "but a caller is not kept waiting for one that does not come"
    number = breaker.began(1.0)
    assert not breaker.wants_probe(1.2)
    assert not breaker.ask(2.0)
    breaker.succeeded(number)
    assert breaker.is_closed


def test_a_probe_that_succeeds_closes_it():
    breaker = opened()
    breaker.succeeded(breaker.began(1.0))
    assert breaker.is_closed
    assert breaker.ask(1.0)


def test_a_probe_that_says_nothing_is_given_back():
    breaker = opened()
    breaker.ended_neutrally(breaker.began(1.0))
    assert breaker.ask(1.0)


def test_an_attempt_from_before_is_never_taken_for_the_probe():
    breaker = Breaker(RULES)
    old = breaker.began(0.0)
    for _ in range(3):
        breaker.failed(0.0, MIDDLE)
    probe = breaker.began(1.0)
    breaker.succeeded(old)
    assert not breaker.is_closed, "a success that is old is no recovery"
    breaker.failed(1.1, MIDDLE, old)
    breaker.ended_neutrally(old)
    assert breaker.probing, "the probe is still out"
    breaker.succeeded(probe)
    assert breaker.is_closed
    for _ in range(5):
        breaker.failed(1.2, MIDDLE, old)
    assert breaker.is_closed, "what began before it opened says nothing about now"


def test_one_that_was_asked_because_nobody_else_was_left_counts_only_if_it_succeeds():
    breaker = opened()
    early = breaker.began(0.5)
    assert not breaker.probing
    breaker.failed(0.6, MIDDLE, early)
    assert breaker.ask(1.0), "the pause did not grow"
    breaker.succeeded(breaker.began(0.7))
    assert breaker.is_closed


def test_a_new_process_closes_it_at_once():
    breaker = opened()
    old = breaker.began(1.0)
    breaker.close()
    assert breaker.is_closed
    breaker.failed(1.0, MIDDLE, old)
    assert breaker.is_closed


def test_each_failed_probe_doubles_the_pause_up_to_its_limit():
    breaker, now, pauses = opened(), 0.0, []
    for _ in range(8):
        pause = next(step / 4 for step in range(1, 1000) if breaker.ask(now + step / 4))
        pauses.append(pause)
        now += pause
        breaker.failed(now, MIDDLE, breaker.began(now))
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_after_a_recovery_the_pause_starts_small_again():
    breaker = opened()
    breaker.failed(1.0, MIDDLE, breaker.began(1.0))
    breaker.succeeded(breaker.began(3.0))
    for _ in range(RULES.failures):
        breaker.failed(10.0, MIDDLE)
    assert breaker.ask(11.0)


def test_fifty_calls_ended_by_one_crash_are_one_reason_to_pause():
    breaker = Breaker(RULES)
    for _ in range(50):
        breaker.failed(0.0, MIDDLE, 0, call=str(_), tenant="t", ran=True)
    assert breaker.ask(RULES.open_s)


def test_watchers_hear_of_every_turn():
    breaker, heard = Breaker(RULES), []
    breaker.watchers.append(lambda: heard.append(breaker.is_closed))
    for _ in range(10):
        breaker.succeeded(breaker.number)
    for _ in range(3):
        breaker.failed(0.0, MIDDLE)
    breaker.ended_neutrally(breaker.began(1.0))
    breaker.succeeded(breaker.began(1.0))
    assert heard == [False, False, True]


@pytest.mark.parametrize(("noise", "pause"), [(0.0, 1 - JITTER), (0.5, 1.0), (1.0, 1 + JITTER)])
def test_noise_spreads_the_pause(noise, pause):
    breaker = Breaker(RULES)
    for _ in range(RULES.failures):
        breaker.failed(0.0, noise)
    assert not breaker.ask(pause - 1e-6)
    assert breaker.ask(pause + 1e-6)


@given(st.lists(st.tuples(st.sampled_from(["failed", "succeeded", "neutral", "began"]), st.integers(0, 9), st.floats(0, 5))
                , max_size=60))  # fmt: skip
def test_it_never_shuts_a_replica_out_for_longer_than_its_longest_pause(steps):
    breaker, now, out = Breaker(RULES), 0.0, []
    for step, which, passed in steps:
        now += passed
        if step == "began":
            out.append(breaker.began(now))
        elif out:
            number = out.pop(which % len(out))
            match step:
                case "failed":
                    breaker.failed(now, 1.0, number, call=str(which))
                case "succeeded":
                    breaker.succeeded(number)
                case _:
                    breaker.ended_neutrally(number)
    assert breaker.probing or breaker.ask(now + RULES.open_s_max * (1 + JITTER))
    for number in out:
        breaker.ended_neutrally(number)
    assert breaker.ask(now + RULES.open_s_max * (1 + JITTER)), "no probe is lost"
