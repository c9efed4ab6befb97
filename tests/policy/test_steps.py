"""What is run in a step, on an invented machine whose kernels go through the whole model once for each pass."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pytest

from cordee.policy.batch import Chunk, Entry, Limits, Plan, Planner

PASS_S, ROW_S, LOGITS_S = 0.010, 0.002, 0.001
FIRST_AND_REST = 2


def passes_of(chunks: tuple[Chunk, ...]) -> list[int]:
    """Rows of each pass: neighbouring slots share one, each with as many rows as the shortest of them has left."""
    left = {chunk.slot: chunk.count for chunk in chunks}
    found = []
    while left:
        neighbours = groupby(enumerate(sorted(left)), key=lambda pair: pair[1] - pair[0])
        together = [slot for _, slot in next(neighbours)[1]]
        rows = min(left[slot] for slot in together)
        found.append(rows * len(together))
        left = {slot: count - (rows if slot in together else 0) for slot, count in left.items()}
        left = {slot: count for slot, count in left.items() if count}
    return found


@dataclass
class Machine:
    """A planner, and a clock that goes on by what its steps take. `alone_s`: a pass of a single row, where that is another kernel."""

    planner: Planner
    alone_s: float = 0.0
    now_s: float = 0.0
    steps: list[tuple[Plan, float]] = field(default_factory=list)
    tokens: dict[int, int] = field(default_factory=dict)

    def pass_s(self, rows: int) -> float:
        return self.alone_s if rows == 1 and self.alone_s else PASS_S + ROW_S * rows

    def add(self, key: int, length: int, **more: Any) -> None:
        buffer = memoryview(bytearray(4 * 8192))
        self.planner.add(Entry(key, length, more.pop("priority", 1), 1e9, buffer, scope=key), self.now_s)

    def step(self) -> Plan:
        plan = self.planner.plan(self.now_s)
        took = 0.0
        for those in [(chunk,) for chunk in plan.chunks] if plan.apart else [plan.chunks]:
            took_s = sum(self.pass_s(rows) for rows in passes_of(those)) + LOGITS_S * sum(chunk.last for chunk in those)
            prompts = [(chunk.start, chunk.count) for chunk in those if chunk.count > 1]
            self.planner.cost.note_step(len(those) - len(prompts), prompts, took_s)
            took += took_s
        self.now_s += took
        self.steps.append((plan, took))
        for chunk in plan.chunks:
            self.planner.ran(chunk)
            if chunk.last:
                self.planner.extend(chunk.key)
                self.tokens[chunk.key] = self.tokens.get(chunk.key, 0) + 1
        return plan

    def run(self, steps: int) -> list[tuple[Plan, float]]:
        before = len(self.steps)
        for _ in range(steps):
            self.step()
        return self.steps[before:]


def machine(decoding: int = 4, alone_s: float = 0.0, **limits: Any) -> Machine:
    """One whose first slots decode and whose costs are known."""
    rules: dict[str, Any] = {"stretch_max": 1.75, "prefill_tokens_min": 16, "prefill_s_max": 0.25} | limits
    made = Machine(Planner(Limits(16, 2048, 256, **rules)), alone_s)
    for key in range(decoding):
        made.add(key, 8)
        made.run(8)
    made.run(40)
    return made


def pieces(steps: list[tuple[Plan, float]], key: int) -> list[int]:
    return [chunk.count for plan, _ in steps for chunk in plan.chunks if chunk.key == key and not chunk.last]


def test_a_long_prompt_runs_in_pieces_that_are_worth_a_pass_and_steps_are_so_much_longer_on_the_mean():
    m = machine()
    m.add(9, 4000)
    steps = m.run(400)
    alone_s = PASS_S + 4 * (ROW_S + LOGITS_S)
    later = [took for _, took in steps[20:]]
    assert 1.5 * alone_s < sum(later) / len(later) < 1.9 * alone_s
    assert max(later) < 3 * alone_s
    assert max(took for _, took in steps) < alone_s + 0.25 + 2 * PASS_S
    assert min(pieces(steps, 9)) >= 8


def test_a_short_prompt_that_comes_after_quiet_steps_runs_at_once():
    m = machine()
    m.add(9, 30)
    assert next(chunk.count for chunk in m.step().chunks if chunk.key == 9) == 30


def test_prompts_one_after_the_other_do_not_slow_down_those_who_decode_more_than_one_does():
    m = machine()
    times = []
    for key in range(20, 60):
        m.add(key, 64)
        while not m.tokens.get(key):
            times.append(m.run(1)[0][1])
        m.planner.remove(key)
    alone_s = PASS_S + 5 * (ROW_S + LOGITS_S)
    assert sum(times) / len(times) < 2.2 * alone_s


def test_a_prompt_between_two_that_decode_moves_on_by_a_row_while_it_waits_for_time():
    m = machine(decoding=3)
    m.planner.remove(1)
    m.add(9, 4000)
    m.run(1)
    slots = {chunk.key: chunk.slot for chunk in m.steps[-1][0].chunks}
    assert slots[0] < slots[9] < slots[2]
    steps = m.run(100)
    assert all(any(chunk.key == 9 for chunk in plan.chunks) for plan, _ in steps)
    assert {1} < set(pieces(steps, 9))
    assert max(len(passes_of(plan.chunks)) for plan, _ in steps) <= FIRST_AND_REST


def test_a_prompt_beside_those_who_decode_has_no_rows_while_it_waits_for_time():
    m = machine()
    m.add(9, 4000)
    steps = m.run(100)
    assert any(all(chunk.key != 9 for chunk in plan.chunks) for plan, _ in steps)


def test_larger_pieces_give_more_tokens_a_second_than_a_few_rows_in_every_step():
    def rate(least: int) -> float:
        m = machine(decoding=0, prefill_tokens_min=least, prefill_s_max=0.25 if least > 1 else 0.0001)
        made = 0
        for key in range(4):
            m.add(key, 64)
        for _ in range(800):
            for chunk in m.step().chunks:
                made += chunk.last
                if chunk.last and m.tokens[chunk.key] == 64:
                    m.planner.remove(chunk.key)
                    m.add(chunk.key + 4, 64)
        return made / m.now_s

    assert rate(16) > 1.3 * rate(1)


@pytest.mark.parametrize(("decoding", "is_apart"), [(1, False), (2, True), (3, True), (5, False)])
def test_a_few_who_decode_faster_one_after_the_other_are_run_so(decoding: int, is_apart: bool):
    m = machine(decoding, alone_s=0.003)
    assert all(plan.apart == is_apart for plan, _ in m.run(20))


def test_where_one_pass_is_faster_nobody_is_run_apart_for_long_whatever_one_step_took():
    m = machine(2)
    m.planner.cost.note_step(2, [], 10.0)
    m.planner.cost.note_step(2, [], 10.0)
    steps = m.run(2000)
    assert steps[0][0].apart, "or there is nothing to see"
    assert not steps[-1][0].apart


def test_prompts_run_beside_those_who_decode_apart():
    m = machine(2, alone_s=0.003)
    m.add(9, 30)
    plan = m.step()
    assert plan.apart
    assert [chunk.count for chunk in plan.chunks] == [1, 1, 30]
