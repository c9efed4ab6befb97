from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.domain.replica import Capacity, Continuation, Load, ReplicaKind
from cordee.policy import affinity
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.route import Replica, Router, RouteRules, Size, Strategy, Want

ONE = Size(1, 100)
CAPACITY = Capacity(sequences=8, tokens=8000)


@pytest.fixture(scope="module", autouse=True)
def few_buckets() -> Iterator[None]:
    """What is asked here holds whatever their number is, and each has a ranking to be made for every router."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(affinity, "BUCKETS", 16)
        yield


def replica(
    name: str, tokens: int = 0, used: int = 0, kind: ReplicaKind = ReplicaKind.LINK, fingerprint: str = "f",
    capacity: Capacity = CAPACITY, weight: float = 1.0, region: str = "", continues: Continuation | None = None,
) -> Replica:  # fmt: skip
    made = Replica(
        name, kind, capacity, fingerprint, Breaker(BreakerRules()), weight=weight, region=region, continues=continues
    )
    made.ready = True
    made.tokens, made.used = tokens, used
    return made


def router(replicas: list[Replica], rules: RouteRules | None = None) -> Router:
    made = Router(rules)
    made.replicas.extend(replicas)
    return made


def picked(replicas: list[Replica], size: Size = ONE, seed: int = 0, **options: object) -> str | None:
    alone = bool(options.pop("alone", True))
    found = router(replicas).ask(0.0, Random(seed), Want(size, **options), alone=alone)  # type: ignore[arg-type]
    return found.id if found is not None else None


def shut(target: Replica, now: float = 0.0) -> Replica:
    for _ in range(3):
        target.breaker.failed(now, 0.5)
    return target


def test_the_least_loaded_is_picked():
    assert picked([replica("a", 500), replica("b", 100), replica("c", 300)]) == "b"


def test_load_is_a_share_of_capacity():
    assert picked([replica("small", 500), replica("large", 900, capacity=Capacity(64, 64_000))]) == "large"


def test_the_call_itself_counts_so_that_the_larger_of_two_idle_ones_gets_it():
    assert picked([replica("small"), replica("large", capacity=Capacity(64, 64_000))]) == "large"


def test_equals_are_picked_alike_often():
    counts = {"a": 0, "b": 0, "c": 0}
    for seed in range(3000):
        counts[picked([replica("a"), replica("b"), replica("c")], seed=seed) or ""] += 1
    assert all(880 < count < 1120 for count in counts.values())


def test_one_that_is_full_shut_out_or_not_ready_is_not_picked():
    def others() -> list[Replica]:
        away = replica("away")
        away.ready = False
        return [replica("full", used=8), replica("too", used=8), shut(replica("shut")), away]

    assert picked([*others(), replica("fit", 7000)]) == "fit"
    assert picked(others()) is None
    assert picked([]) is None


def test_room_is_counted_in_sequences():
    assert picked([replica("a", used=6)], Size(2, 100)) == "a"
    assert picked([replica("a", used=7)], Size(2, 100)) is None


def test_a_call_that_was_accepted_needs_no_room():
    assert picked([replica("full", used=8)], anyway=True) == "full"


def test_the_one_to_avoid_is_avoided_unless_it_is_the_only_one():
    assert picked([replica("a"), replica("b", 5000)], avoid="a") == "b"
    assert picked([replica("a")], avoid="a") == "a"


def test_one_that_is_never_to_be_asked_is_not_even_if_it_is_the_only_one():
    assert picked([replica("a"), replica("b", 5000)], never=frozenset({"a"})) == "b"
    assert picked([replica("a")], never=frozenset({"a"})) is None


def test_the_preferred_one_is_taken_even_if_it_is_full():
    assert picked([replica("a"), replica("b", 7000, used=8)], prefer="b") == "b"


def test_the_preferred_one_is_not_taken_if_it_is_away_shut_out_or_never_to_be_asked():
    away = replica("b")
    away.ready = False
    assert picked([replica("a"), away], prefer="b") == "a"
    assert picked([replica("a"), shut(replica("b"))], prefer="b") == "a"
    assert picked([replica("a"), replica("b")], prefer="b", never=frozenset({"b"})) == "a"
    assert picked([replica("a")], prefer="unheard of") == "a"


def test_only_equals_of_a_fingerprint_may_continue():
    assert picked([replica("a", fingerprint="f1"), replica("b", 5000, fingerprint="f2")], fingerprint="f2") == "b"
    assert picked([replica("a", fingerprint="f1")], fingerprint="f2") is None


def test_what_has_left_goes_on_only_where_it_can():
    def plain() -> Replica:
        return replica("a", kind=ReplicaKind.HTTP)

    able = replica("b", 5000, kind=ReplicaKind.HTTP, continues=Continuation.TEXT)
    assert picked([plain(), able], continues=True) == "b"
    assert picked([plain()], continues=True) is None


def test_one_that_said_when_to_come_back_is_left_alone_until_then():
    only = replica("a")
    standing = router([only])
    only.rest(5.0)
    rng = Random(0)
    assert standing.ask(4.9, rng, Want(ONE)) is None
    assert standing.ask(5.0, rng, Want(ONE)) is only


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("count", [2, 3, 16, 17, 100])
def test_the_only_one_with_room_is_found_among_many(count, alone, strategy):
    for at in range(0, count, max(1, count // 10)):
        replicas = [replica(str(i), used=0 if i == at else 8) for i in range(count)]
        found = router(replicas, RouteRules(strategy)).ask(0.0, Random(at), Want(ONE, affinity=7), alone=alone)
        assert found is replicas[at]


@pytest.mark.parametrize("strategy", Strategy)
def test_among_many_full_ones_a_seat_given_back_is_found_at_once(strategy):
    replicas = [replica(str(i), kind=ReplicaKind.HTTP) for i in range(300)]
    standing, rng = router(replicas, RouteRules(strategy)), Random(5)
    while (found := standing.ask(0.0, rng, Want(ONE, affinity=1))) is not None:
        found.began(ONE)
    assert all(one.used == 8 for one in replicas)
    replicas[123].left(ONE)
    assert standing.ask(0.0, rng, Want(ONE, affinity=1)) is replicas[123]


def test_several_gateways_do_not_all_pick_the_same_minimum():
    standing, rng = router([replica(str(i), tokens=i) for i in range(8)]), Random(0)
    assert {standing.ask(0.0, rng, Want(ONE)) for _ in range(200)} == {standing.replicas[0]}
    assert len({standing.ask(0.0, rng, Want(ONE), alone=False) for _ in range(200)}) > 4


@pytest.mark.parametrize("strategy", Strategy)
@given(rows=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8000), st.booleans()), max_size=24), seed=st.integers(),
       alone=st.booleans())  # fmt: skip
def test_whoever_is_picked_can_take_it_and_somebody_is_if_anybody_can(strategy, rows, seed, alone):
    replicas = []
    for at, (used, tokens, ready) in enumerate(rows):
        made = replica(str(at), tokens, used, region="ab"[at % 2])
        made.ready = ready
        replicas.append(made)
    able = {r.id for r in replicas if r.ready and r.used < 8}
    found = router(replicas, RouteRules(strategy)).ask(
        0.0, Random(seed), Want(ONE, affinity=3, region="a"), alone=alone
    )
    assert found is not None if able else found is None
    assert found is None or found.id in able


def test_of_those_that_look_broken_at_most_half_are_left_out():
    replicas = [shut(replica(str(i))) for i in range(8)]
    standing, rng = router(replicas), Random(1)
    for _ in range(4):
        found = standing.ask(0.1, rng, Want(ONE))
        assert found is not None
        assert not standing.is_shut(found)
    assert sum(map(standing.is_shut, replicas)) == 4


def test_when_most_look_broken_and_the_rest_is_full_those_left_out_are_asked_too():
    replicas = [shut(replica(str(i), used=8 if i >= 2 else 0)) for i in range(4)]
    standing = router(replicas)
    found = standing.ask(0.1, Random(1), Want(ONE))
    assert found in replicas[:2]


def test_one_that_is_over_its_pause_is_probed_by_one_call_before_any_score():
    broken = shut(replica("broken", tokens=7000))
    standing, rng = router([broken, replica("b"), replica("c")]), Random(1)
    assert standing.ask(0.9, rng, Want(ONE)) is not broken
    found = standing.ask(1.0, rng, Want(ONE))
    assert found is broken
    broken.breaker.began(1.0)
    assert standing.ask(1.0, rng, Want(ONE)) is not broken


def test_a_probe_that_says_nothing_lets_another_one_go():
    broken = shut(replica("broken", tokens=7000))
    standing, rng = router([broken, replica("b"), replica("c")]), Random(1)
    assert standing.ask(1.0, rng, Want(ONE)) is broken
    broken.breaker.ended_neutrally(broken.breaker.began(1.0))
    assert standing.ask(1.1, rng, Want(ONE)) is broken


def test_a_call_that_has_begun_is_no_probe():
    broken = shut(replica("broken"))
    standing, rng = router([broken, replica("b", 5000), replica("c", 5000)]), Random(1)
    assert standing.ask(2.0, rng, Want(ONE, anyway=True)) is not broken


def test_one_that_left_is_not_asked_and_its_successor_of_the_same_name_is():
    old, new = replica("a"), replica("a")
    standing, rng = router([old]), Random(0)
    assert standing.ask(0.0, rng, Want(ONE)) is old
    standing.leave(old)
    assert standing.ask(0.0, rng, Want(ONE)) is None
    standing.replicas.append(new)
    assert standing.ask(0.0, rng, Want(ONE)) is new


def test_other_rules_hold_from_the_next_call_on():
    replicas = [replica("near", 7000, used=7, region="eu"), replica("far", region="us")]
    standing, rng = router(replicas), Random(0)
    assert standing.ask(0.0, rng, Want(ONE, region="eu")) is replicas[1]
    standing.follow(RouteRules(Strategy.GEO, spill_load=1.0), standing._health._outliers)
    assert standing.ask(0.0, rng, Want(ONE, region="eu")) is replicas[0]


def test_what_was_sent_since_the_report_is_added_to_it():
    one = replica("a")
    one.began(ONE)
    one.began(Size(2, 50))
    assert (one.used, one.tokens, one.mine) == (3, 150, 3)
    one.reported(Load(running=1, waiting=0, tokens=90, seen=1))
    assert (one.used, one.tokens) == (3, 140), "the first call is in the report, the second is not"
    one.reported(Load(running=3, waiting=0, tokens=145, seen=2))
    assert (one.used, one.tokens) == (3, 145)


def test_a_seat_given_back_counts_as_free_at_once_until_a_report_says_otherwise():
    worker, server = replica("w"), replica("s", kind=ReplicaKind.HTTP)
    for one in (worker, server):
        one.began(ONE)
        one.left(ONE)
        assert one.mine == 0
        assert (one.used, one.tokens) == (0, 0)
    worker.reported(Load(running=1, tokens=5, seen=1))
    assert (worker.used, worker.tokens) == (1, 5)


def test_a_new_connection_counts_from_zero_and_closes_the_breaker():
    one = shut(replica("a"))
    one.began(ONE)
    one.reconnected()
    assert (one.used, one.tokens, one.sent) == (0, 0, 0)
    assert one.breaker.is_closed
    one.began(ONE)
    one.reported(Load(seen=0))
    assert one.used == 1


@given(st.lists(st.one_of(st.just("begin"), st.integers(0, 30)), max_size=60))
def test_a_worker_never_looks_emptier_than_what_it_cannot_know_yet(steps):
    one, sent, seen = replica("a"), 0, 0
    for step in steps:
        if step == "begin":
            one.began(ONE)
            sent += 1
        else:
            seen = max(seen, min(sent, int(step)))
            one.reported(Load(seen=seen))
        assert one.used >= sent - seen if step != "begin" else one.used >= 1
