"""The path of a call in virtual time: whatever dies or freezes, the promises hold."""

from __future__ import annotations

import pytest

from cordee.domain.call import Deadlines
from cordee.policy.seats import SeatRules
from cordee.sim.world import Scenario, World

KEPT_SEEDS = (1, 2, 3)  # a seed that ever failed stays here


def assert_promises(world: World) -> None:
    assert world.without_one_outcome() == []
    assert world.wrong_beginnings() == []
    assert world.wrong_answers() == []
    assert world.leaks() == {"seats": 0, "waiting": 0, "open": 0, "running": 0}


@pytest.mark.parametrize("seed", [*KEPT_SEEDS, *range(100, 112)])
def test_no_accepted_answer_is_lost_or_doubled_when_workers_die_and_freeze(seed: int) -> None:
    world = World(seed, Scenario())
    world.run()
    assert_promises(world)
    assert world.not_served() == []


@pytest.mark.parametrize("seed", range(5))
def test_all_workers_may_be_down_at_once_and_calls_wait_for_them(seed: int) -> None:
    world = World(seed, Scenario(calls=60, workers=2, faults=12, repair_s=1.5))
    world.run()
    assert_promises(world)
    assert world.not_served() == []


def test_faults_do_strike_calls_that_have_begun() -> None:
    world = World(1, Scenario())
    world.run()
    continued = [all[0] for all in world.outcomes.values() if all[0].continued]
    assert continued, "no call was continued: this world tests nothing"
    assert world.counts.late > 0, "no late token was dropped: no frozen worker was caught in the middle"


@pytest.mark.parametrize("seed", range(5))
def test_under_overload_calls_are_refused_with_advice_and_the_rest_is_served(seed: int) -> None:
    scenario = Scenario(
        calls=400, workers=2, slots=2, faults=0, arrivals_s=1.0, seats=SeatRules(wait_s_max=1.0, waiting_max=50),
        deadlines=Deadlines(30, 30, 30), leaving=0.0,
    )  # fmt: skip
    world = World(seed, scenario)
    world.run()
    assert_promises(world)
    ends = [all[0] for all in world.outcomes.values()]
    refused = [one for one in ends if one.end.value == "refused"]
    assert refused
    assert {one.why.value for one in refused if one.why} <= {"queue_full", "queue_timeout"}
    assert any(one.end.value == "served" for one in ends)


@pytest.mark.parametrize("seed", range(3))
def test_a_deadline_ends_a_call_that_no_worker_can_finish(seed: int) -> None:
    scenario = Scenario(calls=20, workers=1, faults=0, tokens=400, token_s=0.05, deadlines=Deadlines(1.0, 1.0, 1.0))
    world = World(seed, scenario)
    world.run()
    assert_promises(world)
    assert any(all[0].why is not None and all[0].why.value == "deadline_exceeded" for all in world.outcomes.values())


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = World(7, Scenario()), World(7, Scenario())
    first.run()
    second.run()
    assert first.outcomes == second.outcomes


@pytest.mark.rehearsal
def test_a_thousand_worlds_keep_the_promises() -> None:
    for seed in range(1000):
        world = World(10_000 + seed, Scenario())
        world.run()
        assert_promises(world)
        assert world.not_served() == [], f"seed {10_000 + seed}"
