"""Weights over time: slow start, and those that stand out."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from cordee.policy.outlier import Medians, OutlierRules, medians, verdict
from cordee.policy.pace import Pace
from cordee.policy.replica import HEALTH_MIN
from cordee.policy.route import Router, RouteRules, Want
from cordee.policy.slow_start import START_SHARE, begin_share, share
from tests.policy.test_route import ONE, replica, router, shut

RULES = RouteRules(slow_start_s=5.0)
RNG = Random(0)


def old_pool(count: int = 3, rules: RouteRules = RULES) -> Router:
    """One that has been standing for a minute."""
    standing = router([replica(f"r{i}") for i in range(count)], rules)
    standing.ask(0.0, RNG, Want(ONE))
    standing.ask(60.0, RNG, Want(ONE))
    return standing


def look(standing: Router, now: float) -> None:
    standing.ask(now, RNG, Want(ONE))


def test_a_share_grows_in_a_straight_line_from_a_tenth():
    assert [round(share(t, START_SHARE, 5.0), 2) for t in (0, 1, 2.5, 4.5, 9)] == [0.1, 0.3, 0.6, 1.0, 1.0]
    assert begin_share(None, 5.0) == START_SHARE
    assert begin_share(0.1, 5.0) == pytest.approx(0.98), "a short absence costs little"
    assert begin_share(100.0, 5.0) == START_SHARE
    assert begin_share(None, 0.0) == 1.0
    assert share(0.0, 0.1, 0.0) == 1.0


def test_in_a_pool_that_begins_everybody_has_full_weight():
    standing = router([replica("a"), replica("b")], RULES)
    look(standing, 0.0)
    standing.replicas.append(late := replica("late"))
    look(standing, 3.0)
    assert [one.health for one in standing.replicas] == [1, 1, 1]
    assert late.limit == late.capacity.sequences


def test_one_that_joins_later_starts_slowly():
    standing = old_pool()
    standing.replicas.append(late := replica("late"))
    look(standing, 61.0)
    assert (late.health, late.limit) == (START_SHARE, 1)
    look(standing, 63.5)
    assert late.health == pytest.approx(0.6)
    assert late.limit == 4
    look(standing, 66.0)
    assert (late.health, late.limit) == (1.0, 8)


def test_one_that_came_back_as_a_new_process_starts_slowly_and_one_that_was_out_of_sight_hardly():
    standing = old_pool()
    away, glimpse, _ = standing.replicas
    away.ready = glimpse.ready = False
    look(standing, 61.0)
    away.reconnected()
    away.ready = glimpse.ready = True
    look(standing, 61.5)
    assert away.health == START_SHARE
    assert glimpse.health == pytest.approx(0.9)


def test_the_only_one_there_is_never_held_back():
    standing = old_pool(2)
    first, second = standing.replicas
    second.ready = False
    look(standing, 61.0)
    second.reconnected()
    second.ready = True
    look(standing, 62.0)
    assert second.limit == 1
    first.ready = False
    look(standing, 62.0)
    assert second.limit == 8
    for _ in range(8):
        found = standing.ask(62.0, RNG, Want(ONE))
        assert found is second
        found.began(ONE)


def test_after_its_breaker_closed_it_starts_slowly_too():
    standing = old_pool()
    one = shut(standing.replicas[0], now=60.0)
    look(standing, 60.5)
    one.breaker.succeeded(one.breaker.began(61.5))
    look(standing, 61.5)
    assert one.health == START_SHARE


def paces(standing: Router, now: float, slow: float = 10.0, times: int = 8) -> None:
    """Each replica shows how fast it is; the first one is so many times slower."""
    for at, one in enumerate(standing.replicas):
        for _ in range(times):
            one.pace.noted(now, 0.05 * (slow if at == 0 else 1), 0.01 * (slow if at == 0 else 1))


def test_a_slow_one_loses_weight_in_proportion():
    standing = old_pool()
    paces(standing, 60.0, slow=5.0)
    look(standing, 60.5)
    slow, *others = standing.replicas
    assert slow.health == pytest.approx(1 / 5, rel=0.2)
    assert [one.health for one in others] == [1, 1]


def test_a_slow_one_gets_less_than_a_fifth_of_its_share_even_when_all_are_idle():
    standing = old_pool()
    paces(standing, 60.0, slow=5.0)
    got = Counter[str]()
    for call in range(300):
        found = standing.ask(60.5 + call / 1000, RNG, Want(ONE))
        assert found is not None
        got[found.id] += 1
    assert got["r0"] < 20


def test_an_extreme_one_is_left_out_for_a_while_and_then_starts_slowly():
    standing = old_pool(3)
    paces(standing, 60.0, slow=30.0)
    look(standing, 60.5)
    slow = standing.replicas[0]
    assert slow.is_ejected
    assert standing.is_shut(slow)
    look(standing, 60.6 + OutlierRules().window_s)
    assert not slow.is_ejected
    assert slow.health == pytest.approx(START_SHARE)


def test_breakers_and_outliers_together_leave_at_most_half_of_a_pool_out():
    standing = old_pool(4)
    for one in standing.replicas[2:]:
        shut(one, now=60.0)
    look(standing, 60.1)
    paces(standing, 60.0, slow=30.0)
    look(standing, 60.5)
    slow = standing.replicas[0]
    assert not slow.is_ejected
    assert slow.health == HEALTH_MIN
    assert sum(map(standing.is_shut, standing.replicas)) == 2


def test_one_that_fails_often_gets_less_and_one_that_fails_mostly_nothing():
    rules, pool = OutlierRules(), Medians(None, None, 0.0)
    assert verdict(failing(0.05), pool, rules) == 1.0
    assert 0.2 < verdict(failing(0.3), pool, rules) < 0.6
    assert verdict(failing(0.6), pool, rules) == 0.0


def failing(share: float) -> Pace:
    pace, rng = Pace(), Random(1)
    for _ in range(400):
        if rng.random() < share:
            pace.failed(0.0)
        else:
            pace.succeeded()
    pace.faults = share  # what it settles around
    return pace


def test_where_all_are_slow_nobody_stands_out():
    standing = old_pool(4)
    for one in standing.replicas:
        for _ in range(8):
            one.pace.noted(60.0, 5.0, 1.0)
    look(standing, 60.5)
    assert [one.health for one in standing.replicas] == [1, 1, 1, 1]


def test_of_two_the_faster_one_is_the_measure():
    standing = old_pool(2)
    paces(standing, 60.0, slow=4.0)
    look(standing, 60.5)
    assert standing.replicas[0].health < 0.35
    assert standing.replicas[1].health == 1


def test_short_times_are_not_compared():
    assert verdict(pace_of(0.004, 0.0004), Medians(0.001, 0.0001, None), OutlierRules()) == 1.0


def pace_of(first_s: float, token_s: float) -> Pace:
    pace = Pace()
    for _ in range(5):
        pace.noted(0.0, first_s, token_s)
    return pace


def test_what_was_seen_long_ago_is_forgotten():
    standing = old_pool(3)
    paces(standing, 60.0, slow=5.0)
    look(standing, 60.5)
    slow = standing.replicas[0]
    assert slow.verdict < 1
    look(standing, 71.0)
    assert slow.verdict == 1
    assert slow.health == pytest.approx(START_SHARE), "it is tried with little first"
    assert medians(standing.replicas) == Medians(None, None, None)


def test_a_wait_that_goes_on_counts_once_it_is_longer_than_usual():
    pace = pace_of(0.05, 0.01)
    pace.waited(1.0, 0.03)
    assert pace.first_s == pytest.approx(0.05)
    pace.waited(1.0, 3.0)
    assert pace.first_s > 0.5
