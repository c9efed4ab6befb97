"""Overload in virtual time, shorter than in bench/goodput.py: the main conclusions hold for any seed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cordee.domain.call import Priority
from cordee.policy.degrade import Step
from cordee.sim.goodput import House, Phase, Seen, Storm, without_bound
from cordee.sim.goodput_figures import figures, percentile, recovery_s, responses_s

SECONDS, WARM_UP_S = 40.0, 20.0
CALM_S, WILD_S = 10.0, 15.0


def storm(load: float, seconds: float = SECONDS) -> Storm:
    return Storm((Phase(load, seconds),), replicas=2)


@pytest.mark.parametrize(("load", "least"), [(2.0, 0.95), (5.0, 0.92), (10.0, 0.90)])
def test_goodput_stays_near_capacity_whatever_is_asked(load: float, least: float) -> None:
    seen = House(11, storm(load)).run()
    found = figures(storm(load), seen, WARM_UP_S, SECONDS)
    assert found.goodput >= least
    assert found.refused_p99_s <= 0.05
    assert found.interactive_success >= 0.999
    assert found.interactive_p99_s <= 0.5


def test_clients_that_come_back_at_once_gain_nothing_and_break_nothing() -> None:
    rude = replace(storm(5.0), obedient=False, retries=5)
    found = figures(rude, House(12, rude).run(), WARM_UP_S, SECONDS)
    assert found.goodput >= 0.92
    assert found.interactive_success >= 0.999


def test_the_bound_on_overload_keeps_waits_short() -> None:
    ours, theirs = storm(5.0), without_bound(storm(5.0))
    short = figures(ours, House(13, ours).run(), WARM_UP_S, SECONDS)
    long = figures(theirs, House(13, theirs).run(), WARM_UP_S, SECONDS)
    assert short.queue_p99_s < long.queue_p99_s / 2


def test_it_comes_back_to_normal_and_the_steps_do_not_flap() -> None:
    house = House(14, Storm((Phase(0.7, CALM_S), Phase(5.0, WILD_S), Phase(0.7, 30.0)), retries=0))
    seen = house.run()
    upper = Seen(served=[one for one in seen.served if one.priority is not Priority.BATCH])
    assert recovery_s(upper, CALM_S + WILD_S, 0.25) <= 10
    assert max(step for _, step in seen.steps) is Step.CAPPED
    assert seen.steps[-1][1] is Step.NORMAL
    assert house.ladder.changes <= 8


def test_clients_that_come_back_when_they_were_told_hold_it_up_for_ten_seconds_at_most() -> None:
    back = Storm((Phase(0.7, CALM_S), Phase(5.0, 30.0), Phase(0.7, 30.0)), retries=3)
    seen = House(19, back).run()
    upper = Seen(served=[one for one in seen.served if one.priority is not Priority.BATCH])
    assert recovery_s(upper, CALM_S + 30.0, 0.25) <= 10


def test_closed_loops_wait_and_are_not_refused() -> None:
    """As many clients as three times the slots, each of which sends its next call when it has its answer."""
    quiet = Storm((Phase(0.001, SECONDS),), interactive=0.0, batch=0.0, retries=0, patience_s=30.0)
    house = House(15, quiet)
    ended = house._end

    def again(client, ticket, replica):
        ended(client, ticket, replica)
        house._ask(house._client())

    house._end = again  # type: ignore[method-assign]
    for _ in range(3 * quiet.replicas * quiet.slots):
        house.clock.call_later(0.01, lambda: house._ask(house._client()))
    seen = house.run()
    assert seen.refused == []
    assert seen.lost == []


def test_one_tenant_that_floods_costs_the_others_little() -> None:
    calm = replace(storm(0.6), interactive=0.2)
    wild = replace(calm, phases=(Phase(0.6 * 119 / 20, SECONDS),), flood=100.0)
    before, after = (responses_s(one, House(16, one).run(), WARM_UP_S) for one in (calm, wild))
    assert percentile(after, 0.99) <= 1.2 * percentile(before, 0.99)


def test_the_same_seed_gives_the_same_run() -> None:
    assert House(17, storm(2.0, 10.0)).run() == House(17, storm(2.0, 10.0)).run()
