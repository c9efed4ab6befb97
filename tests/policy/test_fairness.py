from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.fairness import FORGET_MIN, Fair


def serve(fair: Fair[str], turns: int) -> list[str]:
    taken = []
    for _ in range(turns):
        head = fair.head()
        if head is None:
            break
        fair.take(head)
        taken.append(head)
    return taken


def test_a_tenant_that_floods_gets_its_share_and_no_more():
    fair: Fair[str] = Fair(100)
    for n in range(1000):
        fair.push(f"flood {n}", "flood", float(n), 10)
    for n in range(20):
        fair.push(f"quiet {n}", "quiet", float(n), 10)
    first = Counter(name.split()[0] for name in serve(fair, 40))
    assert first == {"flood": 20, "quiet": 20}


def test_the_share_is_counted_in_tokens():
    fair: Fair[str] = Fair(100)
    for n in range(100):
        fair.push(f"long {n}", "long", float(n), 100)
        fair.push(f"short {n}", "short", float(n), 10)
    taken = Counter(name.split()[0] for name in serve(fair, 66))
    assert abs(taken["long"] * 100 - taken["short"] * 10) <= 200


def test_who_comes_back_from_idling_has_saved_up_nothing():
    fair: Fair[str] = Fair(100)
    fair.push("idle 0", "idle", 0.0, 1)
    serve(fair, 1)
    for n in range(100):
        fair.push(f"busy {n}", "busy", float(n), 10)
    serve(fair, 50)
    for n in range(100):
        fair.push(f"idle {n}", "idle", float(n), 10)
    assert Counter(name.split()[0] for name in serve(fair, 20)) == {"busy": 10, "idle": 10}


def test_within_a_tenant_the_first_deadline_goes_first_then_the_first_arrival():
    fair: Fair[str] = Fair(100)
    for name, by in (("late", 9.0), ("early", 1.0), ("first", 5.0), ("second", 5.0)):
        fair.push(name, "t", by, 1)
    assert serve(fair, 4) == ["early", "first", "second", "late"]


def test_what_was_charged_too_much_is_corrected():
    fair: Fair[str] = Fair(100)
    for n in range(10):
        fair.push(f"a {n}", "a", float(n), 100)
        fair.push(f"b {n}", "b", float(n), 100)
    assert [name[0] for name in serve(fair, 2)] == ["a", "b"]
    fair.correct("b", -90)  # it used ten
    assert [name[0] for name in serve(fair, 2)] == ["b", "a"]


def test_idle_tenants_are_forgotten():
    fair: Fair[str] = Fair(10)
    for n in range(20 * FORGET_MIN):
        fair.push(f"call {n}", f"tenant {n}", 0.0, 1)
        serve(fair, 1)
    assert len(fair._tenants) <= FORGET_MIN + 21
    assert len(fair._order) <= FORGET_MIN + 3


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 50)), min_size=1, max_size=120), st.integers(0, 100))
def test_tenants_that_wait_throughout_never_differ_by_more_than_two_calls(calls, served):
    fair: Fair[int] = Fair(100)
    costs: dict[str, list[int]] = {}
    for number, (tenant, cost) in enumerate(calls):
        fair.push(number, tenant, float(number), cost)
        costs.setdefault(tenant, []).append(cost)
    got: Counter[str] = Counter()
    for _ in range(served):
        head = fair.head()
        if head is None:
            break
        tenant, cost = calls[head]
        got[tenant] += cost
        fair.take(head)
        waiting = [name for name in costs if fair.waiting_of(name)]
        if len(waiting) > 1:
            assert max(got[name] for name in waiting) - min(got[name] for name in waiting) <= 50
    assert fair.tokens == sum(cost for _, cost in calls) - sum(got.values())


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"), st.integers(1, 9)), max_size=80))
def test_nobody_is_lost_whoever_leaves(steps):
    fair: Fair[int] = Fair(4)
    here: dict[int, int] = {}
    for number, (leaves, tenant, cost) in enumerate(steps):
        if leaves and here:
            fair.discard(here.popitem()[0])
        else:
            fair.push(number, tenant, float(number), cost)
            here[number] = cost
        assert len(fair) == len(here)
        assert fair.tokens == sum(here.values())
    taken = []
    while (head := fair.head()) is not None:
        fair.take(head)
        taken.append(head)
    assert sorted(taken) == sorted(here)
