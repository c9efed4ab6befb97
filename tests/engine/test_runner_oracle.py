from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from cordee.domain.chunk import Finish
from cordee.domain.replica import ModelCard
from cordee.engine.job import Emission
from cordee.engine.oracle_table import tokens_at
from cordee.engine.runner_oracle import TICK_S, Faults, OracleEngine, Pace
from cordee.policy.oracle import VOCABULARY, ends_itself, length_for, token_at
from tests.engine.doubles import ManualClock, job, rows

CARD = ModelCard("oracle", "f", context=4096, vocabulary=VOCABULARY, exact=True)
FIRST_S, TOKEN_S = 0.05, 0.01


class Bench:
    def __init__(
        self, slots: int = 8, first_s: float = FIRST_S, token_s: float = TOKEN_S, faults: Faults | None = None
    ) -> None:
        self.clock = ManualClock()
        self.engine = OracleEngine(CARD, slots, Pace(first_s, token_s), self.clock, faults or Faults())
        self.emissions: list[Emission] = []
        self.engine.start(self.emissions.append, lambda why: None)

    def answers(self) -> dict[tuple[int, int], list[int]]:
        """Tokens by (handle, choice); every index must be there once and in order."""
        found: dict[tuple[int, int], list[int]] = defaultdict(list)
        for handle, choice, finish, index, token in rows(self.emissions):
            if not finish:
                assert index == len(found[handle, choice])
                found[handle, choice].append(token)
        return found

    def ends(self) -> dict[tuple[int, int], tuple[int, int]]:
        return {(h, c): (finish, index) for h, c, finish, index, _ in rows(self.emissions) if finish}


def test_arrays_say_what_the_policy_says():
    seeds = np.array([0, 1, 2**63, 2**64 - 5], np.uint64)
    indexes = np.array([0, 7, 10**6, 3], np.int64)
    expected = [token_at(int(s), int(i)) for s, i in zip(seeds, indexes, strict=True)]
    assert tokens_at(seeds, indexes).tolist() == expected


def test_an_answer_is_the_one_that_anybody_can_compute():
    bench = Bench()
    bench.engine.submit(job(seed=3, choices=(0, 1), outputs=((), ()), max_tokens=2000))
    bench.clock.advance(60)
    for choice in (0, 1):
        length = length_for(3 + choice)
        assert bench.answers()[1, choice] == [token_at(3 + choice, i) for i in range(length)]
        assert bench.ends()[1, choice] == (Finish.STOP, length)


def test_the_pace_is_kept():
    bench = Bench()
    bench.engine.submit(job(max_tokens=1000, ignore_eos=True))
    bench.clock.advance(FIRST_S - 2 * TICK_S)
    assert bench.answers() == {}
    bench.clock.advance(4 * TICK_S)
    assert len(bench.answers()[1, 0]) == 1
    bench.clock.advance(1.0)
    assert len(bench.answers()[1, 0]) == pytest.approx(101, abs=1)


def test_max_tokens_cuts_an_answer():
    bench = Bench()
    bench.engine.submit(job(max_tokens=5))
    bench.clock.advance(1)
    assert bench.ends() == {(1, 0): (Finish.LENGTH, 5)}


@pytest.mark.parametrize("cut", [0, 1, 10])
def test_a_continuation_joins_without_a_seam(cut: int):
    bench = Bench()
    said = [token_at(9, i) for i in range(cut)]
    bench.engine.submit(job(seed=9, outputs=(said,), max_tokens=2000))
    bench.clock.advance(60)
    out = [(index, token) for _, _, finish, index, token in rows(bench.emissions) if not finish]
    assert out == [(i, token_at(9, i)) for i in range(cut, length_for(9))]


def test_a_continuation_of_what_is_whole_only_ends():
    bench = Bench()
    whole = [token_at(9, i) for i in range(length_for(9))]
    bench.engine.submit(job(seed=9, outputs=(whole,), max_tokens=2000))
    bench.clock.advance(1)
    assert rows(bench.emissions) == [(1, 0, Finish.STOP, len(whole), 0)]
    assert ends_itself(9, 2000)


def test_a_cancelled_job_is_silent_at_once():
    bench = Bench()
    bench.engine.submit(job(ignore_eos=True, max_tokens=1000))
    bench.clock.advance(0.5)
    before = len(rows(bench.emissions))
    bench.engine.cancel((7, 1))
    assert bench.emissions[-1].cancelled == ((7, 1),)
    bench.clock.advance(5)
    assert len(rows(bench.emissions)) == before
    assert bench.clock.armed == 0


def test_a_slot_that_was_freed_by_cancelling_is_not_mixed_up_with_its_successor():
    bench = Bench(slots=1)
    bench.engine.submit(job(handle=1, ignore_eos=True, max_tokens=1000))
    bench.engine.submit(job(handle=2, seed=4, max_tokens=3))
    bench.clock.advance(0.1)
    bench.engine.cancel((7, 1))
    bench.clock.advance(1)
    assert bench.answers()[2, 0] == [token_at(4, i) for i in range(3)]


def test_what_does_not_fit_waits_by_priority():
    bench = Bench(slots=1)
    for handle, priority in ((1, 1), (2, 2), (3, 0)):
        bench.engine.submit(job(handle=handle, priority=priority, max_tokens=2))
    bench.clock.advance(2)
    assert [key[0] for key in bench.ends()] == [1, 3, 2]


def test_deadlines_end_those_that_run_and_those_that_wait():
    bench = Bench(slots=1, token_s=30.0)
    bench.engine.submit(job(handle=1, max_tokens=99, deadline_s=bench.clock.now() + 1, ignore_eos=True))
    bench.engine.submit(job(handle=2, max_tokens=99, deadline_s=bench.clock.now() + 0.5))
    bench.clock.advance(0.6)
    assert bench.ends() == {(2, 0): (Finish.EXPIRED, 0)}
    bench.clock.advance(0.5)
    assert bench.ends()[1, 0] == (Finish.EXPIRED, 1)
    assert bench.engine._jobs == {}


def test_a_process_that_slept_goes_on_at_its_pace_and_does_not_rush():
    bench = Bench()
    bench.engine.submit(job(ignore_eos=True, max_tokens=1000))
    bench.clock.advance(0.1)
    before = len(bench.answers()[1, 0])
    bench.clock.time += 20
    bench.clock.advance(0.1)
    assert len(bench.answers()[1, 0]) - before <= 0.1 / TOKEN_S + 2


def test_nothing_is_armed_when_nothing_is_due():
    bench = Bench()
    assert bench.clock.armed == 0
    bench.engine.submit(job(max_tokens=3))
    bench.clock.advance(1)
    assert bench.clock.armed == 0
    assert sorted(bench.engine._free) == list(range(8))


def test_log_probabilities_have_as_many_alternatives_as_asked_for():
    bench = Bench()
    bench.engine.submit(job(seed=1, max_tokens=1, logprobs=2))
    bench.engine.submit(job(handle=2, max_tokens=1))
    bench.clock.advance(1)
    found: list[Any] = [report for ready in bench.emissions for report in ready.logprobs]
    token = token_at(1, 0)
    assert found == [(7, (1, 0, 0, 0.0, [(token, 0.0), ((token + 1) % VOCABULARY, -10.0)]))]


def test_in_a_rehearsal_it_lies_from_the_answer_on_that_it_was_told_and_as_long_as_it_should():
    bench = Bench(faults=Faults(wrong_from=1))
    for handle in (1, 2):
        bench.engine.submit(job(handle, seed=3, max_tokens=20, ignore_eos=True))
    bench.clock.advance(5)
    right = [token_at(3, i) for i in range(20)]
    assert bench.answers()[1, 0] == right
    assert len(bench.answers()[2, 0]) == 20
    assert not set(enumerate(bench.answers()[2, 0])) & set(enumerate(right))


def test_in_a_rehearsal_it_makes_no_steps_and_says_nothing_from_the_answer_on_that_it_was_told():
    bench = Bench(faults=Faults(stuck_from=1))
    bench.engine.submit(job(1, max_tokens=1000, ignore_eos=True))
    bench.clock.advance(1)
    said, steps = len(bench.answers()[1, 0]), bench.engine.steps
    assert said
    bench.clock.advance(0.1)
    assert bench.engine.steps > steps
    said = len(bench.answers()[1, 0])
    bench.engine.submit(job(2))
    steps = bench.engine.steps
    bench.clock.advance(10)
    assert (len(bench.answers()[1, 0]), bench.engine.steps) == (said, steps)
    assert bench.answers()[2, 0] == []
