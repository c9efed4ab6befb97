from __future__ import annotations

from random import Random

import pytest

from cordee.policy.batch import Entry, Limits, Planner
from cordee.policy.stepcost import StepCost


def machine(decoding: int, prompts: list[tuple[int, int]]) -> float:
    """A step of a machine whose rows cost more the further back they look."""
    rows = sum(0.001 + 4e-6 * position for start, count in prompts for position in range(start, start + count))
    return (0.003 + 0.0015 * decoding if decoding else 0.0) + rows


def test_what_steps_cost_is_learnt_though_both_kinds_run_together():
    cost, rng = StepCost(), Random(1)
    for _ in range(400):
        decoding = rng.choice((0, 4, 8))
        prompts = [(start, 32)] if (start := rng.choice((0, 32, 2048, 2080))) or not decoding else []
        cost.note_step(decoding, prompts, machine(decoding, prompts))
    assert cost.decode_s(8) == pytest.approx(machine(8, []), rel=0.3)
    assert cost.row_s(2048) > 3 * cost.row_s(0)


def test_one_hiccup_changes_little():
    cost = StepCost()
    for _ in range(50):
        cost.note_step(4, [], 0.01)
    cost.note_step(4, [], 10.0)
    assert cost.decode_s(4) < 0.02


def test_rows_fit_into_a_time_by_their_position():
    cost = StepCost()
    for _ in range(100):
        cost.note_step(0, [(0, 100)], 0.1)
        cost.note_step(0, [(4096, 100)], 1.0)
    assert cost.rows_in(0.02, 0, 100) == pytest.approx(20, abs=2)
    assert cost.rows_in(0.02, 4096, 100) == pytest.approx(2, abs=1)
    assert cost.rows_in(0.0, 0, 100) == 0


def test_beside_those_that_decode_a_long_prompt_makes_a_step_only_so_many_times_longer():
    p = Planner(Limits(8, 512, 256, stretch_max=2.0, prefill_tokens_min=1))
    buffer = memoryview(bytearray(4 * 8192))
    for key in range(4):
        p.add(Entry(key, 8, 1, 1e9, buffer, scope=key), 0.0)
    ratios = []
    for now in range(800):
        if now == 50:
            p.add(Entry(99, 4000, 1, 1e9, buffer, scope="long"), float(now))
        chunks = p.plan(float(now)).chunks
        prompts = [(c.start, c.count) for c in chunks if c.count > 1 or not c.last]
        took_s = machine(len(chunks) - len(prompts), prompts)
        if now > 60:
            ratios.append(took_s / machine(4, []))
        p.cost.note_step(len(chunks) - len(prompts), prompts, took_s)
        for chunk in chunks:
            p.ran(chunk)
            if chunk.last:
                p.extend(chunk.key)
    ratios.sort()
    assert ratios[len(ratios) * 99 // 100] < 2.6
    assert sum(ratios) / len(ratios) > 1.4, "and the room there is is used"


def test_an_early_decoder_does_not_hold_a_crowd_of_prompts_to_its_pace():
    p = Planner(Limits(16, 2048, 256, stretch_max=1.75))
    buffer = memoryview(bytearray(4 * 8192))
    for _ in range(20):
        for count in (1, 4, 16):
            p.cost.note_step(count, [], machine(count, []))
        p.cost.note_step(0, [(0, 64)], machine(0, [(0, 64)]))
    p.add(Entry(0, 8, 1, 1e9, buffer, scope=0), 0.0)
    first = p.plan(0.0).chunks[0]
    p.ran(first)
    p.extend(first.key)
    for key in range(1, 16):
        p.add(Entry(key, 64, 1, 1e9, buffer, scope=key), 0.0)
    chunks = p.plan(0.0).chunks
    prompts = [(c.start, c.count) for c in chunks if c.count > 1 or not c.last]
    took_s = machine(len(chunks) - len(prompts), prompts)
    assert 1.75 * machine(1, []) < 0.8 * machine(16, []), "or there is nothing to see"
    assert 0.8 * machine(16, []) < took_s < 1.2 * machine(16, [])


def test_a_step_of_prompts_alone_ends_soon_for_those_who_come_meanwhile():
    p = Planner(Limits(8, 2048, 256, prefill_s_max=0.25))
    buffer = memoryview(bytearray(4 * 8192))
    p.add(Entry(1, 6000, 1, 1e9, buffer, scope="long"), 0.0)
    longest = 0.0
    for now in range(2000):
        chunks = p.plan(float(now)).chunks
        prompts = [(c.start, c.count) for c in chunks]
        took_s = machine(0, prompts)
        longest = max(longest, took_s)
        p.cost.note_step(0, prompts, took_s)
        for chunk in chunks:
            if chunk.last:
                assert longest < 0.5
                return
            p.ran(chunk)
    raise AssertionError("the prompt did not end")
