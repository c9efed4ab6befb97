from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cordee.policy.batch import Chunk, Copy, Entry, Limits, Move, Plan, Planner, Restore, Save, Trim, Way

NEVER = 1e9
ROOM = 400  # tokens a buffer of these tests has


def planner(slots: int = 4, batch: int = 64, prefill: int = 16, **more: Any) -> Planner:
    return Planner(Limits(slots, batch, prefill, **more))


def tokens(*parts: tuple[int, int]) -> array[int]:
    """So many tokens of each kind: (kind, count)…; a kind is a thousand different tokens in a row."""
    ids = array("i", [kind * 1000 + number for kind, count in parts for number in range(count)])
    return ids + array("i", [0] * (ROOM - len(ids)))


def add(
    p: Planner, key: int, length: int, priority: int = 0, deadline: float = NEVER, now: float = 0.0,
    ids: Sequence[int] | None = None, **more: Any,
) -> None:  # fmt: skip
    """A sequence that shares its beginning with nobody, unless `ids` says otherwise."""
    buffer = array("i", ids) if ids is not None else tokens((key, length))
    p.add(Entry(key, length, priority, deadline, memoryview(buffer).cast("B"), **more), now)


def step(p: Planner, now: float = 0.0) -> Plan:
    """One step in which everything works."""
    plan = p.plan(now)
    for chunk in plan.chunks:
        p.ran(chunk)
        if chunk.last:
            p.extend(chunk.key)
    return plan


def counts(plan: Plan) -> list[tuple[int, int]]:
    return [(chunk.key, chunk.count) for chunk in plan.chunks]


def test_a_prompt_runs_whole_and_then_token_by_token():
    p = planner()
    add(p, 1, 10)
    assert step(p).chunks == (Chunk(1, 0, 0, 10, True),)
    assert step(p).chunks == (Chunk(1, 0, 10, 1, True),)
    assert step(p).chunks == (Chunk(1, 0, 11, 1, True),)


def test_a_prompt_longer_than_a_step_runs_in_chunks():
    p = planner(batch=8)
    add(p, 1, 20)
    assert [step(p).chunks[0] for _ in range(3)] == [
        Chunk(1, 0, 0, 8, False),
        Chunk(1, 0, 8, 8, False),
        Chunk(1, 0, 16, 4, True),
    ]


def test_prefill_is_capped_only_while_others_decode():
    p = planner()
    add(p, 1, 40)
    assert step(p).chunks[0].count == 40
    add(p, 2, 40)
    assert [c.count for c in step(p).chunks] == [1, 16]


def test_priority_goes_before_arrival():
    p = planner(slots=1)
    add(p, 1, 4, 2)
    add(p, 2, 4, 1)
    add(p, 3, 4, 1)
    order = []
    for _ in range(3):
        (chunk,) = step(p).chunks
        order.append(chunk.key)
        p.remove(chunk.key)
    assert order == [2, 3, 1]


def test_a_more_urgent_prompt_overtakes_one_that_has_begun():
    p = planner(batch=8)
    add(p, 1, 20, 2)
    step(p)
    add(p, 2, 8, 0)
    assert step(p).chunks == (Chunk(2, 1, 0, 8, True),)


def test_an_urgent_prompt_has_every_other_step_without_those_of_lower_classes():
    p = planner()
    for key in (1, 2):
        add(p, key, 4, 2)
        step(p)
    add(p, 3, 40, 0)
    assert counts(step(p)) == [(3, 40)]
    assert counts(step(p)) == [(1, 1), (2, 1), (3, 1)]
    add(p, 4, 150, 1)
    assert [counts(step(p)) for _ in range(4)] == [
        [(3, 1), (4, 16)],
        [(1, 1), (2, 1), (3, 1), (4, 16)],
        [(3, 1), (4, 16)],
        [(1, 1), (2, 1), (3, 1), (4, 16)],
    ]


def test_an_urgent_prompt_takes_no_lower_prompt_along_in_a_step_of_its_own():
    p = planner(batch=32)
    add(p, 1, 4, 2)
    step(p)
    add(p, 2, 100, 2)
    step(p)
    add(p, 3, 8, 0)
    assert counts(step(p)) == [(3, 8)]
    assert counts(step(p)) == [(1, 1), (2, 16), (3, 1)]


def test_a_short_prompt_does_not_wait_for_a_long_one_that_came_before():
    p = planner(batch=16)
    add(p, 1, 100)
    step(p)
    add(p, 2, 6)
    assert counts(step(p)) == [(1, 10), (2, 6)]
    assert counts(step(p)) == [(1, 15), (2, 1)]


def test_the_first_in_turn_gets_half_of_the_rows_however_many_short_ones_come():
    p = planner(batch=16)
    add(p, 1, 100)
    step(p)
    for key in (2, 3, 4):
        add(p, key, 60)
    assert dict(counts(step(p)))[1] == 8


def test_who_runs_stays_together_and_rows_ascend():
    p = planner(keeps_prefixes=False)
    for key in (1, 2, 3):
        add(p, key, 2)
    step(p)
    assert p.remove(1) == 0
    add(p, 4, 2)
    assert [(c.key, c.slot) for c in step(p).chunks] == [(4, 0), (2, 1), (3, 2)]
    p.remove(2)
    add(p, 5, 2)
    assert [(c.key, c.slot) for c in step(p).chunks] == [(4, 0), (5, 1), (3, 2)]


def test_what_does_not_fit_waits_for_a_slot():
    p = planner(slots=1)
    add(p, 1, 2)
    add(p, 2, 2)
    assert {c.key for c in step(p).chunks} == {1}
    assert {c.key for c in step(p).chunks} == {1}
    p.remove(1)
    assert {c.key for c in step(p).chunks} == {2}


def test_removing_twice_or_while_waiting_frees_nothing_more():
    p = planner(slots=1)
    add(p, 1, 2)
    add(p, 2, 2)
    step(p)
    assert p.remove(2) is None
    assert p.remove(1) == 0
    assert p.remove(1) is None
    assert p.idle()
    assert step(p) == Plan()


def test_a_deadline_takes_running_waiting_and_parked_sequences_away():
    p = planner(slots=1, spare=1)
    add(p, 1, 2, 1, 5.0)
    add(p, 2, 2, 1, 4.0)
    step(p)
    add(p, 3, 2, 0, 5.0)
    assert step(p).parked
    plan = p.plan(5.0)
    assert set(plan.expired) == {1, 2, 3}
    assert plan.chunks == ()
    assert set(plan.operations) == {Trim(0, 0), Trim(1, 0)}
    assert p.idle()


def test_choices_of_one_call_copy_what_the_first_has_computed():
    p = planner()
    one = tokens((1, 10))
    add(p, 1, 10, ids=one)
    add(p, 2, 10, ids=one, like=1)
    add(p, 3, 14, ids=tokens((1, 10), (3, 4)), like=1)
    assert counts(step(p)) == [(1, 10)]
    plan = step(p)
    assert plan.operations == (Copy(2, 0, 1, 9), Copy(3, 0, 2, 10))
    assert plan.chunks == (Chunk(1, 0, 10, 1, True), Chunk(2, 1, 9, 1, True), Chunk(3, 2, 10, 4, True))


def test_choices_whose_first_is_gone_compute_for_themselves():
    p = planner(slots=1, keeps_prefixes=False)
    one = tokens((1, 10))
    add(p, 1, 10, ids=one)
    add(p, 2, 10, ids=one, like=1)
    step(p)
    p.remove(1)
    assert step(p).chunks == (Chunk(2, 0, 0, 10, True),)


def test_choices_that_wait_for_their_first_do_not_hold_others_up():
    p = planner(batch=8)
    one = tokens((1, 20))
    add(p, 1, 20, ids=one)
    add(p, 2, 20, ids=one, like=1)
    add(p, 3, 4)
    assert {key for key, _ in counts(step(p))} == {1, 3}
    assert not any(key == 2 for _ in range(2) for key, _ in counts(p.plan(0.0)))


def test_a_copy_that_could_not_be_made_is_computed():
    p = planner()
    one = tokens((1, 4))
    add(p, 1, 4, ids=one)
    add(p, 2, 4, ids=one, like=1)
    step(p)
    (copy,) = p.plan(0.0).operations
    p.failed(copy)
    assert Chunk(2, 1, 0, 4, True) in p.plan(0.0).chunks


def test_more_slots_than_rows_is_refused_with_the_cure():
    with pytest.raises(ValueError, match=r"raise engine.batch or lower engine.slots"):
        planner(slots=65)


# -- preemption


def test_a_call_of_a_higher_class_takes_a_slot_and_the_other_goes_on_where_it_was():
    p = planner(slots=1, spare=1)
    add(p, 1, 10, 2)
    step(p), step(p)
    add(p, 2, 4, 0)
    plan = step(p)
    assert plan.parked == ((1, Way.KEEP),)
    assert [c.key for c in plan.chunks] == [2]
    p.remove(2)
    plan = step(p)
    assert [(c.key, c.start, c.count) for c in plan.chunks] == [(1, 11, 1)]


def test_nobody_makes_room_for_an_equal():
    p = planner(slots=1, spare=1)
    add(p, 1, 10, 1)
    step(p)
    add(p, 2, 4, 1)
    assert step(p).parked == ()


def test_a_call_that_age_has_moved_up_makes_nobody_of_its_own_class_leave():
    p = planner(slots=1, ageing_s=1.0)
    add(p, 1, 4, 2)
    step(p)
    add(p, 2, 4, 2)
    assert step(p, 5.0).parked == ()


def test_the_lowest_class_leaves_first_and_of_it_the_one_with_the_least_computed():
    p = planner(slots=3)
    add(p, 1, 30, 1)
    add(p, 2, 30, 2)
    add(p, 3, 10, 2)
    step(p)
    add(p, 4, 4, 0)
    assert [key for key, _ in step(p).parked] == [3]


def test_a_sequence_is_parked_only_so_many_times():
    p = planner(slots=1, parkings_max=2)
    add(p, 1, 40, 2)
    times = 0
    for key in range(10, 15):
        step(p)
        add(p, key, 4, 0)
        plan = step(p)
        times += len(plan.parked)
        p.remove(key)
    assert times == 2


def test_without_a_slot_to_spare_it_is_saved_or_computed_again():
    for more, way in (({"token_bytes": 8, "parked_bytes_max": 8 * 40}, Way.SAVE), ({}, Way.RECOMPUTE)):
        p = planner(slots=1, **more)
        add(p, 1, 40, 2)
        step(p)
        add(p, 2, 4, 0)
        plan = step(p)
        assert plan.parked == ((1, way),)
        assert (Save(1, 0) in plan.operations) == (way is Way.SAVE)
        p.remove(2)
        plan = step(p)
        if way is Way.SAVE:
            assert plan.operations[-1] == Restore(1, 0)
            assert plan.chunks == (Chunk(1, 0, 40, 1, True),)
        else:
            assert plan.chunks == (Chunk(1, 0, 0, 41, True),)


def test_what_could_not_be_saved_or_restored_is_computed_again():
    for fails in (Save, Restore):
        p = planner(slots=1, token_bytes=8, parked_bytes_max=1 << 20)
        add(p, 1, 40, 2)
        step(p)
        add(p, 2, 4, 0)
        for operation in step(p).operations:
            if isinstance(operation, fails):
                p.failed(operation)
        p.remove(2)
        plan = p.plan(0.0)
        for operation in plan.operations:
            if isinstance(operation, fails):
                p.failed(operation)
        assert p.plan(0.0).chunks == (Chunk(1, 0, 0, 41, True),)


def test_a_parked_sequence_goes_before_those_of_its_class_that_came_later():
    p = planner(slots=1, spare=1)
    add(p, 1, 10, 2)
    step(p)
    add(p, 2, 4, 0)
    add(p, 3, 4, 2)
    step(p)
    p.remove(2)
    assert [c.key for c in step(p).chunks] == [1]


# -- prefixes


def test_the_next_turn_of_a_conversation_takes_over_what_the_last_left():
    p = planner()
    add(p, 1, 40, ids=tokens((1, 40)))
    step(p)
    assert p.remove(1) is None
    add(p, 2, 70, ids=tokens((1, 40), (2, 30)))
    plan = step(p)
    assert plan.reused == ((2, 40),)
    assert plan.chunks == (Chunk(2, 0, 40, 30, True),)
    assert plan.operations == ()


def test_the_last_token_is_always_run():
    p = planner()
    add(p, 1, 64, ids=tokens((1, 64)))
    step(p)
    p.remove(1)
    add(p, 2, 64, ids=tokens((1, 64)))
    plan = step(p)
    assert plan.operations == (Trim(0, 63),)
    assert plan.chunks == (Chunk(2, 0, 63, 1, True),)


def test_a_system_prompt_that_somebody_computes_is_waited_for_and_copied():
    p = planner(batch=32)
    add(p, 1, 80, ids=tokens((9, 64), (1, 16)))
    add(p, 2, 80, ids=tokens((9, 64), (2, 16)))
    assert counts(step(p)) == [(1, 32)]
    assert counts(step(p)) == [(1, 32)]
    plan = step(p)
    assert plan.operations == (Copy(2, 0, 1, 64),)
    assert plan.chunks == (Chunk(1, 0, 64, 16, True), Chunk(2, 1, 64, 16, True))
    assert plan.reused == ((2, 64),)


def test_nobody_waits_for_a_prefix_of_a_lower_class():
    p = planner(batch=32)
    add(p, 1, 80, 2, ids=tokens((9, 64), (1, 16)))
    step(p)
    add(p, 2, 80, 0, ids=tokens((9, 64), (2, 16)))
    plan = step(p)
    assert plan.operations == (Copy(2, 0, 1, 32),)
    assert counts(plan) == [(2, 32)]


def test_only_equals_of_scope_share():
    p = planner()
    add(p, 1, 64, ids=tokens((1, 64)), scope=("a",))
    step(p)
    p.remove(1)
    add(p, 2, 64, ids=tokens((1, 64)), scope=("b",))
    assert step(p).reused == ()


def test_what_was_used_the_longest_ago_is_lost_first():
    p = planner(slots=2)
    for key, now in ((1, 1.0), (2, 2.0)):
        add(p, key, 40, now=now)
        step(p, now)
        p.remove(key)
    add(p, 3, 40)
    (operation,) = step(p, 3.0).operations
    assert operation == Trim(0, 0)
    p.remove(3)
    add(p, 4, 50, ids=tokens((2, 40), (4, 10)))
    assert step(p, 4.0).reused == ((4, 40),)


def test_what_was_left_beside_those_that_run_moves_out_of_their_way():
    p = planner(slots=4, batch=200, token_bytes=1, slot_bytes=1)
    for key in (1, 2, 3):
        add(p, key, 40)
    step(p)
    p.remove(2)  # between two that run, and the last that was used
    add(p, 4, 40)
    plan = step(p, 1.0)
    assert plan.operations[0] == Move(1, 3, 40)
    assert [c.slot for c in plan.chunks] == [0, 1, 2]
    add(p, 5, 50, ids=tokens((2, 40), (5, 10)))
    assert step(p, 2.0).chunks[-1].start == 40


def test_without_a_cache_of_prefixes_slots_are_emptied():
    p = planner(keeps_prefixes=False)
    add(p, 1, 64)
    step(p)
    assert p.remove(1) == 0


# -- scores


def test_the_rows_before_the_first_scored_token_may_come_from_elsewhere_and_the_others_run():
    p = planner(batch=200)
    add(p, 1, 64, ids=tokens((1, 64)))
    step(p)
    p.remove(1)
    add(p, 2, 64, ids=tokens((1, 64)), scored_from=40)
    plan = p.plan(0.0)
    assert plan.chunks == (Chunk(2, 0, 40, 24, False, 24),)
    p.ran(plan.chunks[0])
    assert p.remove(2) is None


def test_a_step_wants_no_more_than_64_rows_for_scores():
    p = planner(batch=400, slots=2)
    add(p, 1, 150, scored_from=50)
    add(p, 2, 150, scored_from=50)
    seen = []
    for _ in range(4):
        plan = p.plan(0.0)
        seen.append(sum(chunk.scored for chunk in plan.chunks))
        for chunk in plan.chunks:
            p.ran(chunk)
            if chunk.start + chunk.count == 150:
                p.remove(chunk.key)
    assert seen == [64, 64, 64, 8]
    assert p.idle()


# -- fairness, ageing, and limits that change


def test_tenants_of_a_class_get_turns_by_what_they_have_had():
    p = planner(slots=1)
    for key in range(1, 5):
        add(p, key, 30, 1, tenant="greedy", cost=100)
    add(p, 10, 30, 1, tenant="modest", cost=100)
    order = []
    for _ in range(5):
        (chunk,) = step(p).chunks
        order.append(chunk.key)
        p.remove(chunk.key)
    assert order.index(10) <= 1


def test_an_old_call_of_a_low_class_comes_through_a_stream_of_higher_ones():
    p = planner(slots=1, ageing_s=1.0)
    add(p, 1, 4, 2)
    add(p, 2, 4, 0)
    key = 2
    for now in range(1, 40):
        add(p, key + 1, 4, 0, now=float(now))
        plan = step(p, float(now))
        key += 1
        if any(c.key == 1 for c in plan.chunks):
            return
        p.remove(plan.chunks[0].key)
    raise AssertionError("it starved")


def test_fewer_slots_from_now_on_and_never_more_than_were_reserved():
    p = planner(slots=3)
    for key in (1, 2, 3, 4):
        add(p, key, 4)
    step(p)
    p.adjust(Limits(1, 64, 16))
    assert p.running == 3
    for key in (1, 2, 3):
        p.remove(key)
    assert [c.key for c in step(p).chunks] == [4]
    with pytest.raises(ValueError, match="restart the worker"):
        p.adjust(Limits(4, 64, 16))


# -- properties


class Cache:
    """What the kernels would hold: checks every plan against it."""

    def __init__(self, p: Planner, slots: int) -> None:
        self.planner = p
        self.slots: list[list[int]] = [[] for _ in range(slots)]
        self.saved: dict[int, list[int]] = {}
        self.ids: dict[int, array[int]] = {}
        self.fails = False

    def carry_out(self, plan: Plan) -> set[int]:
        broken = set()
        for operation in plan.operations:
            match operation:
                case Trim(slot, count):
                    assert count <= len(self.slots[slot])
                    del self.slots[slot][count:]
                case Copy(_, source, target, count) | Move(source, target, count):
                    assert count <= len(self.slots[source]), "only what was computed can be copied"
                    self.slots[target] = [] if self.fails else self.slots[source][:count]
                    if self.fails:
                        broken.add(target)
                        self.planner.failed(operation)
                case Save(key, slot):
                    self.saved[key] = list(self.slots[slot])
                case Restore(key, slot):
                    self.slots[slot] = self.saved.pop(key)
        return broken

    def run(self, plan: Plan) -> list[Chunk]:
        broken = self.carry_out(plan)
        ran = [chunk for chunk in plan.chunks if chunk.slot not in broken]
        for chunk in ran:
            held = self.slots[chunk.slot]
            assert len(held) == chunk.start, "the cache is what the plan takes it for"
            held += self.ids[chunk.key][chunk.start : chunk.start + chunk.count]
            assert held == list(self.ids[chunk.key][: len(held)]), "no token of anybody else"
            self.planner.ran(chunk)
        return ran


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_happens_every_sequence_ends_and_slots_hold_what_they_should(data: st.DataObject):
    slots, spare = data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2))
    limits = Limits(
        slots, 24, 7, spare=spare, ageing_s=50.0, token_bytes=data.draw(st.sampled_from([0, 4])), parked_bytes_max=600,
        slot_bytes=data.draw(st.sampled_from([1, 10**10])), keeps_prefixes=data.draw(st.booleans()),
    )  # fmt: skip
    p = Planner(limits)
    cache = Cache(p, slots + spare)
    arrivals = data.draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.integers(1, 90), st.integers(0, 2), st.integers(1, 4), st.integers(0, 30)),
            min_size=1, max_size=10,
        )
    )  # fmt: skip
    left: dict[int, int] = {}
    cancels = data.draw(st.sets(st.integers(0, 60), max_size=4))
    cache.fails = data.draw(st.booleans())
    for now in range(900):
        for key, (kind, length, priority, answer, at) in enumerate(arrivals):
            if at != now:
                continue
            ids = tokens((kind, min(length, 70)), (10 + key, length - min(length, 70)))
            cache.ids[key], left[key] = ids, answer
            scored = data.draw(st.booleans())
            entry = Entry(
                key, length, priority, NEVER, memoryview(ids).cast("B"), f"t{kind}", scope=("s",),
                scored_from=length // 2 if scored else None,
            )  # fmt: skip
            p.add(entry, float(now))
        if now in cancels and left:
            key = min(left)
            del left[key]
            slot = p.remove(key)
            if slot is not None:
                cache.slots[slot].clear()
        plan = p.plan(float(now))
        rows = [chunk.slot for chunk in plan.chunks]
        assert rows == sorted(set(rows)), "slots are never shared"
        assert len(rows) <= slots
        assert sum(chunk.count for chunk in plan.chunks) <= 24
        for chunk in cache.run(plan):
            over = False
            if chunk.last:
                p.extend(chunk.key)
                left[chunk.key] -= 1
                over = not left[chunk.key]
            elif chunk.scored and chunk.start + chunk.count == arrivals[chunk.key][1]:
                over = True
            if over:
                del left[chunk.key]
                slot = p.remove(chunk.key)
                if slot is not None:
                    cache.slots[slot].clear()
        if now > 30 and p.idle():
            break
    assert p.idle(), "every sequence ends"
    assert not left
