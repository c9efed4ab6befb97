from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cordee.policy.batch import Chunk, Limits, Plan, Planner

NEVER = 1e9


def planner(slots: int = 4, batch: int = 64, prefill: int = 16) -> Planner:
    return Planner(Limits(slots, batch, prefill))


def step(p: Planner, now: float = 0.0) -> Plan:
    """One step in which everything works."""
    plan = p.plan(now)
    for chunk in plan.chunks:
        p.ran(chunk)
        if chunk.last:
            p.extend(chunk.key)
    return plan


def test_a_prompt_runs_whole_and_then_token_by_token():
    p = planner()
    p.add(1, 10, 0, NEVER)
    assert step(p).chunks == (Chunk(1, 0, 0, 10, True),)
    assert step(p).chunks == (Chunk(1, 0, 10, 1, True),)
    assert step(p).chunks == (Chunk(1, 0, 11, 1, True),)


def test_a_prompt_longer_than_a_step_runs_in_chunks():
    p = planner(batch=8)
    p.add(1, 20, 0, NEVER)
    assert [step(p).chunks[0] for _ in range(3)] == [
        Chunk(1, 0, 0, 8, False),
        Chunk(1, 0, 8, 8, False),
        Chunk(1, 0, 16, 4, True),
    ]


def test_prefill_is_capped_only_while_others_decode():
    p = planner()
    p.add(1, 40, 0, NEVER)
    assert step(p).chunks[0].count == 40
    p.add(2, 40, 0, NEVER)
    assert [c.count for c in step(p).chunks] == [1, 16]


def test_priority_goes_before_arrival():
    p = planner(slots=1)
    p.add(1, 4, 2, NEVER)
    p.add(2, 4, 1, NEVER)
    p.add(3, 4, 1, NEVER)
    order = []
    for _ in range(3):
        (chunk,) = step(p).chunks
        order.append(chunk.key)
        p.remove(chunk.key)
    assert order == [2, 3, 1]


def test_a_more_urgent_prompt_overtakes_one_that_has_begun():
    p = planner(batch=8)
    p.add(1, 20, 2, NEVER)
    step(p)
    p.add(2, 8, 0, NEVER)
    assert step(p).chunks == (Chunk(2, 1, 0, 8, True),)


def test_the_lowest_free_slot_is_taken_and_rows_ascend():
    p = planner()
    for key in (1, 2, 3):
        p.add(key, 2, 0, NEVER)
    step(p)
    assert p.remove(1) == 0
    p.add(4, 2, 0, NEVER)
    plan = step(p)
    assert [(c.key, c.slot) for c in plan.chunks] == [(4, 0), (2, 1), (3, 2)]


def test_what_does_not_fit_waits_for_a_slot():
    p = planner(slots=1)
    p.add(1, 2, 0, NEVER)
    p.add(2, 2, 0, NEVER)
    assert {c.key for c in step(p).chunks} == {1}
    assert {c.key for c in step(p).chunks} == {1}
    p.remove(1)
    assert {c.key for c in step(p).chunks} == {2}


def test_removing_twice_or_while_waiting_frees_nothing_more():
    p = planner(slots=1)
    p.add(1, 2, 0, NEVER)
    p.add(2, 2, 0, NEVER)
    step(p)
    assert p.remove(2) is None
    assert p.remove(1) == 0
    assert p.remove(1) is None
    assert p.idle()
    assert step(p) == Plan()


def test_a_deadline_takes_running_and_waiting_sequences_away():
    p = planner(slots=1)
    p.add(1, 2, 0, 5.0)
    p.add(2, 2, 0, 4.0)
    step(p)
    plan = p.plan(5.0)
    assert set(plan.expired) == {1, 2}
    assert plan.freed == (0,)
    assert plan.chunks == ()
    assert p.idle()


def test_choices_of_one_call_copy_what_the_first_has_computed():
    p = planner()
    p.add(1, 10, 0, NEVER)
    p.add(2, 10, 0, NEVER, leader=1, shared=9)
    p.add(3, 14, 0, NEVER, leader=1, shared=10)
    assert [c.key for c in step(p).chunks] == [1]
    plan = step(p)
    assert [(c.key, c.source, c.target, c.tokens) for c in plan.copies] == [(2, 0, 1, 9), (3, 0, 2, 10)]
    assert plan.chunks == (Chunk(1, 0, 10, 1, True), Chunk(2, 1, 9, 1, True), Chunk(3, 2, 10, 4, True))


def test_choices_whose_first_is_gone_compute_for_themselves():
    p = planner(slots=1)
    p.add(1, 10, 0, NEVER)
    p.add(2, 10, 0, NEVER, leader=1, shared=9)
    step(p)
    p.remove(1)
    assert step(p).chunks == (Chunk(2, 0, 0, 10, True),)


def test_choices_that_wait_for_their_first_do_not_hold_others_up():
    p = planner(batch=8)
    p.add(1, 20, 0, NEVER)
    p.add(2, 20, 0, NEVER, leader=1, shared=19)
    p.add(3, 4, 0, NEVER)
    step(p), step(p)
    assert [(c.key, c.count) for c in step(p).chunks] == [(1, 4), (3, 4)]
    assert [copy.key for copy in step(p).copies] == [2]


def test_a_copy_that_could_not_be_made_is_computed():
    p = planner()
    p.add(1, 4, 0, NEVER)
    p.add(2, 4, 0, NEVER, leader=1, shared=3)
    step(p)
    p.plan(0.0)
    p.uncached(2)
    assert Chunk(2, 1, 0, 4, True) in p.plan(0.0).chunks


def test_more_slots_than_rows_is_refused_with_the_cure():
    with pytest.raises(ValueError, match=r"raise engine.batch or lower engine.slots"):
        planner(slots=65)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_sequence_computes_every_token_once_and_slots_are_never_shared(data: st.DataObject):
    p = planner(slots=3, batch=16, prefill=5)
    lengths = data.draw(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 2)), min_size=1, max_size=8))
    left = {}
    for key, (length, priority) in enumerate(lengths):
        p.add(key, length, priority, NEVER)
        left[key] = data.draw(st.integers(1, 4))
    computed = dict.fromkeys(left, 0)
    for _ in range(400):
        plan = p.plan(0.0)
        slots = [c.slot for c in plan.chunks]
        assert slots == sorted(set(slots))
        assert sum(c.count for c in plan.chunks) <= 16
        for chunk in plan.chunks:
            assert chunk.start == computed[chunk.key]
            computed[chunk.key] += chunk.count
            p.ran(chunk)
            if chunk.last:
                p.extend(chunk.key)
                left[chunk.key] -= 1
                if not left[chunk.key]:
                    p.remove(chunk.key)
        if p.idle():
            break
    assert p.idle()
