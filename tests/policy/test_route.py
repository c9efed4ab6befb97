from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.domain.replica import Capacity, Load, ReplicaKind
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.route import Replica, Size, Want, pick

ONE = Size(1, 100)
CAPACITY = Capacity(sequences=8, tokens=8000)


def replica(
    name: str, tokens: int = 0, used: int = 0, kind: ReplicaKind = ReplicaKind.LINK, fingerprint: str = "f",
    capacity: Capacity = CAPACITY,
) -> Replica:  # fmt: skip
    made = Replica(name, kind, capacity, fingerprint, Breaker(BreakerRules()))
    made.ready = True
    made.tokens, made.used = tokens, used
    return made


def picked(replicas: list[Replica], size: Size = ONE, seed: int = 0, **options: object) -> str | None:
    alone = bool(options.pop("alone", True))
    found = pick(0.0, Random(seed), replicas, Want(size, **options), alone=alone)  # type: ignore[arg-type]
    return found.id if found is not None else None


def shut(target: Replica) -> Replica:
    for _ in range(3):
        target.breaker.failed(0.0, 0.5)
    return target


def test_the_least_loaded_is_picked():
    assert picked([replica("a", 500), replica("b", 100), replica("c", 300)]) == "b"


def test_load_is_a_share_of_capacity():
    assert picked([replica("small", 500), replica("large", 900, capacity=Capacity(64, 64_000))]) == "large"


def test_equals_are_picked_alike_often():
    counts = {"a": 0, "b": 0}
    for seed in range(2000):
        counts[picked([replica("a"), replica("b")], seed=seed) or ""] += 1
    assert 900 < counts["a"] < 1100


def test_one_that_is_full_shut_out_or_not_ready_is_not_picked():
    away = replica("away")
    away.ready = False
    assert picked([replica("full", used=8), shut(replica("shut")), away, replica("fit", 7000)]) == "fit"
    assert picked([replica("full", used=8), shut(replica("shut")), away]) is None
    assert picked([]) is None


def test_room_is_counted_in_sequences():
    assert picked([replica("a", used=6)], Size(2, 100)) == "a"
    assert picked([replica("a", used=7)], Size(2, 100)) is None


def test_a_call_that_was_accepted_needs_no_room():
    assert picked([replica("full", used=8)], anyway=True) == "full"


def test_the_one_to_avoid_is_avoided():
    assert picked([replica("a"), replica("b", 5000)], avoid="a") == "b"
    assert picked([replica("a")], avoid="a") is None


def test_only_equals_of_a_fingerprint_may_continue():
    assert picked([replica("a", fingerprint="f1"), replica("b", 5000, fingerprint="f2")], fingerprint="f2") == "b"
    assert picked([replica("a", fingerprint="f1")], fingerprint="f2") is None


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("count", [2, 3, 16, 17, 100])
def test_the_only_one_with_room_is_found_among_many(count, alone):
    for at in range(count):
        replicas = [replica(str(i), used=0 if i == at else 8) for i in range(count)]
        assert picked(replicas, seed=at, alone=alone) == str(at)


def test_several_gateways_do_not_all_pick_the_same_minimum():
    replicas = [replica(str(i), tokens=i) for i in range(8)]
    assert {picked(replicas, seed=seed) for seed in range(200)} == {"0"}
    assert len({picked(replicas, seed=seed, alone=False) for seed in range(200)}) > 4


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8000), st.booleans(), st.booleans()), max_size=24), st.integers(),
       st.booleans())  # fmt: skip
def test_whoever_is_picked_can_take_it_and_somebody_is_if_anybody_can(rows, seed, alone):
    replicas = []
    for at, (used, tokens, ready, is_shut) in enumerate(rows):
        made = replica(str(at), tokens, used)
        made.ready = ready
        replicas.append(shut(made) if is_shut else made)
    able = {r.id for r in replicas if r.ready and r.used < 8 and r.breaker.is_closed}
    found = picked(replicas, seed=seed, alone=alone)
    assert found in able if able else found is None


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


def test_a_new_connection_counts_from_zero():
    one = replica("a")
    one.began(ONE)
    one.reconnected()
    assert (one.used, one.tokens, one.sent) == (0, 0, 0)
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
