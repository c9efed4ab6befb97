"""The path of a call in virtual time: whatever dies or freezes, the promises hold."""

from __future__ import annotations

import pytest

from cordee.domain.call import Deadlines
from cordee.policy.hedge import HedgeRules
from cordee.policy.seats import SeatRules
from cordee.sim.world import Scenario, World

KEPT_SEEDS = (1, 2, 3)  # a seed that ever failed stays here


def assert_promises(world: World) -> None:
    assert world.without_one_outcome() == []
    assert world.wrong_beginnings() == []
    assert world.wrong_answers() == []
    assert world.leaks() == {"seats": 0, "waiting": 0, "open": 0, "running": 0, "suspects": 0}


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


@pytest.mark.parametrize("seed", range(4))
def test_poison_kills_two_workers_and_everybody_else_is_answered(seed: int) -> None:
    world = World(seed, Scenario(faults=0, poison=1, leaving=0.0))
    world.run()
    assert_promises(world)
    assert (world.deaths, world.quarantine.proven) == (2, 1)
    assert world.not_served() == []
    assert world.accused() == []


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_poison_is_found_when_there_are_few_workers(seed: int, workers: int) -> None:
    world = World(seed, Scenario(calls=60, workers=workers, faults=0, poison=1, leaving=0.0))
    world.run()
    assert_promises(world)
    assert (world.deaths, world.not_served(), world.accused()) == (2, [], [])


@pytest.mark.parametrize("seed", range(2))
def test_two_workers_killed_by_hand_within_a_second_accuse_nobody(seed: int) -> None:
    world = World(seed, Scenario(calls=100, workers=2, slots=64, tokens=200, arrivals_s=0.5, faults=0, leaving=0.0))
    for number, worker in enumerate(world.workers):
        world.clock.call_later(0.4 + 0.5 * number, worker.die)
        world.clock.call_later(1.2 + 0.5 * number, worker.revive)
    world.run()
    assert_promises(world)
    assert (world.not_served(), world.accused(), world.quarantine.proven) == ([], [], 0)


def first_tokens(hedge: HedgeRules) -> tuple[World, list[float]]:
    scenario = Scenario(
        calls=1000, workers=4, slots=16, arrivals_s=30.0, faults=0, leaving=0.0, choices_max=1, slow_every=66,
        slow_first_s=1.0, jitter=0.5, hedge=hedge,
    )  # fmt: skip
    world = World(1, scenario)
    world.run()
    assert_promises(world)
    return world, sorted(all[0].first_token_s or 0.0 for all in world.outcomes.values())


def test_hedging_cuts_the_tail_of_the_first_token_for_two_percent_more_attempts() -> None:
    _, plain = first_tokens(HedgeRules())
    world, cut = first_tokens(HedgeRules(enabled=True))
    at = int(0.99 * len(plain))
    assert plain[at] > 0.9
    assert cut[at] < 0.1
    attempts = sum(worker.started for worker in world.workers)
    assert attempts <= 1.025 * len(world.calls)


@pytest.mark.parametrize("seed", range(6))
def test_hedging_keeps_the_promises_while_workers_die_freeze_and_are_poisoned(seed: int) -> None:
    eager = HedgeRules(enabled=True, quantile=0.6, share=0.2, utilisation_max=1.0)
    world = World(seed, Scenario(poison=seed % 3, slow_every=10, slow_first_s=0.3, jitter=0.5, hedge=eager))
    world.run()
    assert_promises(world)
    assert world.not_served() == []
    assert world.pool.hedge is not None
    assert world.pool.hedge.won > 0


@pytest.mark.rehearsal
def test_a_thousand_worlds_keep_the_promises() -> None:
    """Two thousand kills and as many freezes. A call is accused wrongly only if a second kill meets the very worker on which it
    runs apart, within the few milliseconds that this takes."""
    accused = 0
    for seed in range(1000):
        world = World(10_000 + seed, Scenario())
        world.run()
        assert_promises(world)
        assert world.not_served() == [], f"seed {10_000 + seed}"
        accused += len(world.accused())
    assert accused <= 10, "of 200,000 calls"
