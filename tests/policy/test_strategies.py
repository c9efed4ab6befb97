"""Each strategy does what its name says, among a few replicas and among many."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.affinity import PrefixAffinity
from cordee.policy.route import Replica, Router, RouteRules, Size, Strategy, Want
from tests.policy.test_route import ONE, replica, router


def shares(standing: Router, calls: int, seed: int = 0, **wish: object) -> Counter[str]:
    """Who got how many, of calls that end at once."""
    rng, got = Random(seed), Counter[str]()
    for _ in range(calls):
        found = standing.ask(0.0, rng, Want(ONE, **wish))  # type: ignore[arg-type]
        assert found is not None
        got[found.id] += 1
    return got


@pytest.mark.parametrize("count", [3, 50])
def test_round_robin_takes_turns(count):
    got = shares(
        router([replica(str(i), tokens=i * 10) for i in range(count)], RouteRules(Strategy.ROUND_ROBIN)), count * 4
    )
    assert set(got.values()) == {4}


def test_round_robin_passes_over_those_that_are_full():
    replicas = [replica("a"), replica("full", used=8), replica("c")]
    assert shares(router(replicas, RouteRules(Strategy.ROUND_ROBIN)), 10) == {"a": 5, "c": 5}


def test_round_robin_passes_over_a_weak_one_now_and_then():
    weak = replica("weak")
    standing = router([replica("a"), weak, replica("c")], RouteRules(Strategy.ROUND_ROBIN))
    shares(standing, 1)
    weak.ramp = 0.1
    weak.weigh()
    got = shares(standing, 3000)
    assert got["weak"] < got["a"] / 5


def test_least_connections_counts_calls_and_not_tokens():
    few, many = replica("few", tokens=7900, used=1), replica("many", tokens=10, used=3)
    assert router([few, many], RouteRules(Strategy.LEAST_CONNECTIONS)).ask(0.0, Random(0), Want(ONE)) is few
    assert router([replica("few", 7900, 1), replica("many", 10, 3)]).ask(0.0, Random(0), Want(ONE)).id == "many"  # type: ignore[union-attr]


@pytest.mark.parametrize("copies", [1, 20])
def test_weighted_gives_shares_by_weight(copies):
    replicas = [replica(f"{w}-{i}", weight=float(w)) for w in (1, 3) for i in range(copies)]
    got = shares(router(replicas, RouteRules(Strategy.WEIGHTED)), 8000)
    heavy = sum(count for name, count in got.items() if name.startswith("3"))
    assert 0.72 < heavy / 8000 < 0.78


GEO = RouteRules(Strategy.GEO, regions={"eu": ("us", "ap")})


def world(eu: int = 0, us: int = 0, ap: int = 0) -> list[Replica]:
    """One replica a region, each with so many of its eight seats taken."""
    return [replica(name, used=used, region=name) for name, used in (("ap", ap), ("us", us), ("eu", eu))]


def geo(region: str, **used: int) -> str:
    found = router(world(**used), GEO).ask(0.0, Random(0), Want(ONE, region=region))
    assert found is not None
    return found.id


def test_the_callers_own_region_comes_first():
    assert geo("eu", eu=5) == "eu"
    assert geo("ap", ap=5) == "ap"


def test_a_loaded_region_spills_into_the_next_one_of_its_order():
    assert geo("eu", eu=6) == "us", "seven of eight are above 0.8"
    assert geo("eu", eu=6, us=6) == "ap"


def test_where_all_are_loaded_the_least_loaded_takes_it():
    assert geo("eu", eu=7, us=6, ap=7) == "us"


def test_a_caller_from_nowhere_is_served_by_whoever_has_room():
    assert geo("", eu=7, us=7, ap=0) == "ap"
    assert geo("atlantis", eu=7, us=7, ap=0) == "ap"


def members(count: int) -> list[Replica]:
    return [replica(f"w{i}") for i in range(count)]


def affine(standing: Router, affinity: int, seed: int = 0) -> str:
    found = standing.ask(0.0, Random(seed), Want(ONE, affinity=affinity))
    assert found is not None
    return found.id


RULES = RouteRules(Strategy.PREFIX_AFFINITY)


@pytest.mark.parametrize("count", [4, 40])
def test_calls_of_one_prefix_go_together_in_every_gateway(count):
    here, there = router(members(count), RULES), router(list(reversed(members(count))), RULES)
    for affinity in range(1, 200):
        assert affine(here, affinity) == affine(there, affinity, seed=affinity)


def test_prefixes_are_spread_over_all():
    got = Counter(affine(router_of_eight, affinity) for affinity in range(1, 4001))
    assert len(got) == 8
    assert max(got.values()) < 1.35 * 500


router_of_eight = router(members(8), RULES)


def test_when_one_leaves_only_its_prefixes_move():
    standing = router(members(8), RULES)
    before = {affinity: affine(standing, affinity) for affinity in range(1, 500)}
    standing.leave(standing.replicas[3])
    moved = [affinity for affinity, name in before.items() if affine(standing, affinity) != name]
    assert {before[affinity] for affinity in moved} == {"w3"}


def test_when_one_is_away_for_a_while_its_prefixes_come_back_to_it():
    standing = router(members(4), RULES)
    home = affine(standing, 77)
    one = next(replica for replica in standing.replicas if replica.id == home)
    one.ready = False
    assert affine(standing, 77) != home
    one.ready = True
    assert affine(standing, 77) == home


def test_a_hot_prefix_spills_when_its_replica_lies_above_the_mean():
    standing, rng, got = router(members(4), RULES), Random(0), Counter[str]()
    for _ in range(20):
        found = standing.ask(0.0, rng, Want(ONE, affinity=5))
        assert found is not None
        found.began(ONE)
        got[found.id] += 1
    assert max(got.values()) <= 8
    assert max(got.values()) <= 1.25 * 20 / 4 + 2


def test_a_call_without_a_prefix_goes_by_load():
    replicas = members(4)
    for one in replicas[1:]:
        one.tokens = 5000
    assert router(replicas, RULES).ask(0.0, Random(0), Want(Size(1, 10))) is replicas[0]


def test_a_ranking_does_not_depend_on_who_joined_first():
    first, second = PrefixAffinity(RULES), PrefixAffinity(RULES)
    for one in members(20):
        first.joined(one)
    for one in reversed(members(20)):
        second.joined(one)
    assert [[id for _, id, _ in row] for row in first._rankings] == [
        [id for _, id, _ in row] for row in second._rankings
    ]


BY_LOAD = (Strategy.LEAST_LOAD, Strategy.LEAST_CONNECTIONS)
AFFINITIES = st.integers(1, (1 << 64) - 1)


def key(number: int) -> int:
    """As a gateway makes them: spread over 64 bits, and never 0."""
    return Random(number).getrandbits(64) | 1


def gateway(count: int, rules: RouteRules, seed: int) -> Router:
    """One of those that share so many idle replicas, which it got to know in an order of its own."""
    return router(Random(seed).sample(members(count), count), rules)


@pytest.mark.parametrize("strategy", BY_LOAD)
@pytest.mark.parametrize(("count", "alone"), [(2, True), (2, False), (5, True), (16, True)])
def test_among_equals_calls_that_begin_alike_meet_the_same_replica_in_every_gateway(strategy, count, alone):
    here, there = (gateway(count, RouteRules(strategy, gateways=1 if alone else 2), seed) for seed in (1, 2))
    rng = Random(0)
    for number in range(100):
        want = Want(ONE, affinity=key(number))
        first = here.ask(0.0, rng, want, alone=alone)
        again = [asked.ask(0.0, rng, want, alone=alone) for asked in (here, there, there)]
        assert first is not None
        assert [one.id for one in again if one is not None] == [first.id] * 3


def test_among_idle_ones_they_do_also_where_several_gateways_look_at_two_of_many():
    rules, rng = RouteRules(gateways=4), Random(0)
    gateways = [gateway(12, rules, seed) for seed in range(4)]
    for number in range(50):
        found = [asked.ask(0.0, rng, Want(ONE, affinity=key(number)), alone=False) for asked in gateways]
        assert len({one.id for one in found if one is not None}) == 1


@pytest.mark.parametrize("strategy", BY_LOAD)
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("count", [2, 3, 8, 16])
def test_what_begins_differently_is_spread_evenly_over_equals(count, alone, strategy):
    standing, rng, got = router(members(count), RouteRules(strategy)), Random(0), Counter[str]()
    for number in range(300 * count):
        found = standing.ask(0.0, rng, Want(ONE, affinity=key(number)), alone=alone)
        assert found is not None
        got[found.id] += 1
    assert len(got) == count
    assert min(got.values()) > 0.75 * 300
    assert max(got.values()) < 1.25 * 300


@given(AFFINITIES, st.lists(st.integers(0, 7), min_size=2, max_size=16), st.sampled_from(BY_LOAD))
def test_load_decides_before_any_beginning_does(affinity, used, strategy):
    replicas = [replica(f"w{i}", tokens=100 * count, used=count) for i, count in enumerate(used)]
    found = router(replicas, RouteRules(strategy)).ask(0.0, Random(0), Want(ONE, affinity=affinity))
    assert found is not None
    assert found.used == min(used)


@given(AFFINITIES, st.integers(2, 16), st.sampled_from(BY_LOAD))
def test_a_beginning_that_all_share_loads_nobody_more_than_others(affinity, count, strategy):
    replicas, rng = members(count), Random(0)
    standing = router(replicas, RouteRules(strategy))
    for _ in range(3 * count + 1):
        found = standing.ask(0.0, rng, Want(ONE, affinity=affinity))
        assert found is not None
        found.began(ONE)
    assert max(one.used for one in replicas) - min(one.used for one in replicas) <= 1


@given(AFFINITIES, st.integers(2, 4))
def test_nor_does_it_where_several_gateways_have_old_reports(affinity, gateways):
    """Nobody reports: each knows what it has sent itself. Each of them would send a call more than to the other at most."""
    got: Counter[str] = Counter()
    for seed in range(gateways):
        standing, rng = gateway(2, RouteRules(gateways=gateways), seed), Random(seed)
        for _ in range(7):
            found = standing.ask(0.0, rng, Want(ONE, affinity=affinity), alone=False)
            assert found is not None
            found.began(ONE)
            got[found.id] += 1
    assert abs(got["w0"] - got["w1"]) <= gateways


def test_without_a_choice_nobody_asks_how_a_prompt_begins():
    assert router(members(1)).prefix_tokens == 0
    assert router(members(2)).prefix_tokens == RouteRules().affinity_tokens
    assert router(members(2), RouteRules(Strategy.WEIGHTED)).prefix_tokens == 0
