"""The main conclusions of the sweep, small enough to be checked every time."""

from __future__ import annotations

import pytest

from cordee.policy.route import Strategy
from cordee.sim.sweep import Case, sweep

SMALL = 3000


def test_the_better_of_two_beats_the_exact_minimum_when_eight_gateways_see_old_reports():
    chosen = [sweep(Case(8, 0.1, calls=SMALL), seed) for seed in (1, 2)]
    herd = [sweep(Case(8, 0.1, exact=True, calls=SMALL), seed) for seed in (1, 2)]
    assert sum(one.mean_s for one in chosen) < 0.8 * sum(one.mean_s for one in herd)
    assert sum(one.spread for one in chosen) < sum(one.spread for one in herd)


@pytest.mark.parametrize("age_s", [0.1, 0.2])
def test_with_old_reports_it_is_still_better_than_random(age_s):
    chosen = [sweep(Case(8, age_s, calls=SMALL), seed) for seed in (1, 2)]
    random = [sweep(Case(8, age_s, Strategy.WEIGHTED, calls=SMALL), seed) for seed in (1, 2)]
    assert sum(one.mean_s for one in chosen) < sum(one.mean_s for one in random)
    assert sum(one.spread for one in chosen) < sum(one.spread for one in random)


def test_with_fresh_reports_calls_wait_little_longer_behind_eight_gateways_than_behind_one():
    one = [sweep(Case(1, 0.0, calls=SMALL), seed) for seed in (1, 2, 3)]
    eight = [sweep(Case(8, 0.0, calls=SMALL), seed) for seed in (1, 2, 3)]
    assert sum(run.mean_s for run in eight) <= 1.4 * sum(run.mean_s for run in one)
    assert all(run.spread <= 1.25 for run in eight)


def test_a_case_is_a_function_of_its_seed():
    assert sweep(Case(2, 0.1, calls=300), 5) == sweep(Case(2, 0.1, calls=300), 5)
