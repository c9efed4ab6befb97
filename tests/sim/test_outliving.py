"""Gateways die in virtual time, workers with them, the store goes away: what clients resume is exact, or they are told why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import pytest

from cordee.flow.rejoin import Rejoin
from cordee.sim.outliving import Faults, Lasting, Outliving

KEPT_SEEDS = (5, 9)  # a seed that ever failed stays here: accounts that the store had missed were charged again
SMALL = Lasting(calls=20, tokens=40)
NOTHING_LEFT = {"seats": 0, "waiting": 0, "open": 0, "calls": 0, "running": 0, "kept": 0}


def run(seed: int, scenario: Lasting) -> Outliving:
    world = Outliving(seed, scenario)
    world.run()
    assert world.wrong() == [], f"seed {seed}"
    assert world.neither_whole_nor_refused() == [], f"seed {seed}"
    assert world.charged_twice() == [], f"seed {seed}"
    assert world.leaks() == NOTHING_LEFT, f"seed {seed}"
    return world


def run_all(seeds: Iterable[int], scenario: Lasting) -> Counter[str]:
    seen: Counter[str] = Counter()
    for seed in seeds:
        world = run(seed, scenario)
        assert world.refused() == [], (
            f"seed {seed}"
        )  # the oracle never comes out different, and nothing is forgotten so soon
        seen.update(world.served_from())
        seen["restarts"] += sum(client.restarts for client in world.clients)
        seen["gateways killed"] += len(world.dead)
    return seen


@pytest.mark.parametrize("seed", KEPT_SEEDS)
def test_a_seed_that_ever_failed_keeps_the_promises(seed: int) -> None:
    run(seed, Lasting())


def test_two_hundred_worlds_whose_gateways_die_keep_the_promises() -> None:
    seen = run_all(range(200), SMALL)
    assert all(seen[what] for what in ("ring", "journal", "regenerated", "restarts", "gateways killed")), seen


@pytest.mark.parametrize("seed", range(5))
def test_without_a_store_that_goes_away_no_answer_is_ever_begun_anew(seed: int) -> None:
    world = run(seed, Lasting(faults=Faults(store=0)))
    assert [client.restarts for client in world.clients if client.restarts] == []


@pytest.mark.parametrize("seed", range(5))
def test_whoever_opens_second_connections_everywhere_is_charged_once(seed: int) -> None:
    run(seed, Lasting(faults=Faults(impatient=1.0)))


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = run(7, SMALL), run(7, SMALL)
    assert first.ledger == second.ledger
    assert first.served_from() == second.served_from()


def test_the_checkers_see_a_resume_that_is_one_token_off(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Rejoin.is_old
    monkeypatch.setattr(Rejoin, "is_old", lambda way, choice, count: right(way, choice, count + 1))
    world = Outliving(1, Lasting())
    world.run()
    assert world.wrong() or world.refused()


@pytest.mark.rehearsal
def test_a_thousand_worlds_whose_gateways_die_keep_the_promises() -> None:
    seen = run_all(range(10_000, 11_000), Lasting(calls=40))
    print(dict(seen))
