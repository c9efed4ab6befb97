from __future__ import annotations

import threading
from array import array
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cordee.domain.call import Item, Task
from cordee.domain.chunk import Finish
from cordee.engine.job import Emission, Job
from cordee.engine.loop import EngineBroken, StepLoop
from cordee.engine.sample import Sampler
from cordee.policy.batch import Limits, Planner, Way
from tests.engine.doubles import CARD, END, CountingRunner, ManualClock, job, rows


class Bench:
    """A loop whose steps are called by hand."""

    def __init__(self, slots: int = 4, **limits: Any) -> None:
        self.runner = CountingRunner()
        self.clock = ManualClock()
        self.emissions: list[Emission] = []
        self.loop = StepLoop(
            self.runner, Planner(Limits(slots, 64, 16, **limits)), Sampler(CARD.vocabulary, [END]), frozenset({END}),
            CARD.context, self.clock.now, self.emissions.append,
        )  # fmt: skip

    def run(self) -> list[tuple[int, ...]]:
        """What comes out until nothing is left to do."""
        self.loop.submit(job(handle=999, prompt=(1,), max_tokens=0))  # wakes a loop with nothing to do
        self.loop._obey()
        while not self.loop._planner.idle():
            self.loop.step()
        ready = self.loop._pending.take()
        self.emissions += [ready] if ready is not None else []
        return [row for row in rows(self.emissions) if row[0] != 999]


def test_tokens_have_their_index_and_the_end_comes_once():
    bench = Bench()
    bench.loop.submit(job())
    assert bench.run() == [
        (1, 0, 0, 0, 4),
        (1, 0, 0, 1, 5),
        (1, 0, 0, 2, 6),
        (1, 0, 0, 3, 7),
        (1, 0, Finish.LENGTH, 4, 0),
    ]


def test_the_end_of_generation_token_is_never_sent():
    bench = Bench()
    bench.loop.submit(job(prompt=(29,), max_tokens=9))
    assert bench.run() == [(1, 0, 0, 0, 30), (1, 0, Finish.STOP, 1, 0)]


def test_ignore_eos_goes_past_the_end():
    bench = Bench()
    bench.loop.submit(job(prompt=(29,), max_tokens=3, ignore_eos=True))
    assert [row[2] for row in bench.run()] == [0, 0, 0, Finish.LENGTH]
    assert END not in [row[4] for row in rows(bench.emissions)]


def test_a_continuation_goes_on_at_its_index_with_the_same_tokens():
    whole, rest = Bench(), Bench()
    whole.loop.submit(job(max_tokens=6))
    rest.loop.submit(job(outputs=((4, 5),), max_tokens=6))
    assert rest.run() == whole.run()[2:]


def test_a_continuation_that_has_all_its_tokens_ends_at_once():
    bench = Bench()
    bench.loop.submit(job(outputs=((4, 5),), max_tokens=2))
    assert bench.run() == [(1, 0, Finish.LENGTH, 2, 0)]
    assert bench.runner.runs == []


def test_a_full_context_ends_with_length():
    bench = Bench()
    bench.loop.submit(job(prompt=[1] * (CARD.context - 2), max_tokens=10))
    assert bench.run() == [(1, 0, 0, 0, 2), (1, 0, 0, 1, 3), (1, 0, Finish.LENGTH, 2, 0)]


@pytest.mark.parametrize("can_copy", [True, False])
def test_choices_come_out_the_same_whether_copied_or_computed(can_copy: bool):
    bench = Bench()
    bench.runner.can_copy = can_copy
    bench.loop.submit(job(choices=(0, 1, 2), outputs=((), (), (4, 5)), max_tokens=3))
    out = bench.run()
    for choice, first in ((0, 0), (1, 0), (2, 2)):
        mine = [row[2:] for row in out if row[1] == choice]
        assert mine == [(0, i, 4 + i) for i in range(first, 3)] + [(Finish.LENGTH, 3, 0)]


def test_a_deadline_ends_a_sequence_with_what_it_has():
    bench = Bench()
    bench.loop.submit(job(deadline_s=bench.clock.now() + 1, max_tokens=50))
    bench.loop._obey()
    bench.loop.step()
    bench.clock.advance(1)
    assert bench.run()[-1] == (1, 0, Finish.EXPIRED, 1, 0)
    assert all(not cached for cached in bench.runner.cache.values())


def test_a_cancelled_job_is_gone_by_the_next_step_and_is_reported():
    bench = Bench()
    bench.loop.submit(job(max_tokens=50))
    bench.loop._obey()
    bench.loop.step()
    bench.loop.cancel((7, 1))
    before = len(bench.runner.runs)
    bench.run()
    assert bench.emissions[-1].cancelled == [(7, 1)]
    assert len(bench.runner.runs) == before
    assert bench.runner.cache == {0: []}


def test_one_bad_sequence_fails_alone():
    bench = Bench()
    bench.runner.poison = {13}
    bench.loop.submit(job(handle=1))
    bench.loop.submit(job(handle=2, prompt=(12,), max_tokens=9))
    bench.loop.submit(job(handle=3, prompt=(5,), max_tokens=2))
    out = bench.run()
    assert [row for row in out if row[0] == 2] == [(2, 0, 0, 0, 13), (2, 0, Finish.FAILED, 1, 0)]
    assert [row[4] for row in out if row[0] == 1] == [4, 5, 6, 7, 0]
    assert [row[4] for row in out if row[0] == 3] == [6, 7, 0]
    assert [(name, why) for ready in bench.emissions for name, why in ready.failures] == [((7, 2), "poison")]


def test_logits_that_are_no_numbers_fail_only_their_job():
    bench = Bench()
    bench.runner.nan = {20}
    bench.loop.submit(job(handle=1, max_tokens=1))
    bench.loop.submit(job(handle=2, prompt=(20,), choices=(0, 1), outputs=((), ())))
    out = bench.run()
    assert [row[2] for row in out if row[0] == 1] == [0, Finish.LENGTH]
    assert [row[2] for row in out if row[0] == 2] == [Finish.FAILED]


def test_an_engine_that_computes_nothing_any_more_is_broken():
    bench = Bench()
    bench.runner.poison = set(range(32))
    bench.loop.submit(job(handle=1))
    bench.loop.submit(job(handle=2))
    with pytest.raises(EngineBroken, match="poison"):
        bench.run()


def test_log_probabilities_come_with_their_token():
    bench = Bench()
    bench.loop.submit(job(logprobs=2, max_tokens=1))
    bench.run()
    ((connection, (handle, choice, index, chosen, others)),) = [x for e in bench.emissions for x in e.logprobs]
    assert (connection, handle, choice, index) == (7, 1, 0, 0)
    assert others[0] == (4, chosen)
    assert len(others) == 2


def test_the_thread_sleeps_until_a_command_comes_and_ends_when_told():
    bench = Bench()
    came = threading.Event()

    def deliver(ready: Emission) -> None:
        bench.emissions.append(ready)
        came.set()

    bench.loop._deliver = deliver
    thread = threading.Thread(target=bench.loop.run)
    thread.start()
    bench.loop.submit(job(max_tokens=1))
    assert came.wait(5)
    bench.loop.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert rows(bench.emissions) == [(1, 0, 0, 0, 4), (1, 0, Finish.LENGTH, 1, 0)]


# -- what others have computed


def test_a_later_call_is_told_how_much_of_its_prompt_was_there():
    bench = Bench()
    bench.loop.submit(job(handle=1, prompt=[5] * 30, max_tokens=5))
    bench.run()
    bench.loop.submit(job(handle=2, prompt=[*[5] * 30, 6, 7, 8, 9, 9], max_tokens=1))
    out = bench.run()
    assert [row[4] for row in out if row[0] == 2] == [10, 0]
    assert [(name, tokens) for e in bench.emissions for name, tokens in e.cached] == [((7, 2), 34)]
    assert bench.loop.counts.cached_tokens == 34


@pytest.mark.parametrize("fault", ["can_copy", "can_cut"])
def test_a_slot_that_cannot_be_made_ready_costs_nothing_but_time(fault: str):
    bench = Bench()
    setattr(bench.runner, fault, False)
    for handle in (1, 2, 3):
        bench.loop.submit(job(handle=handle, prompt=[*range(40), handle], max_tokens=4, ignore_eos=True))
    out = bench.run()
    assert all([row[4] for row in out if row[0] == h] == [h + 1, h + 2, h + 3, h + 4, 0] for h in (1, 2, 3))
    bench.loop.submit(job(handle=4, prompt=[*range(40), 20], max_tokens=2))
    assert [row[4] for row in bench.run() if row[0] == 4] == [21, 22, 0]


def test_tenants_that_are_isolated_share_nothing():
    bench = Bench()
    bench.loop._answers.isolates = True
    for handle, tenant in ((1, "a"), (2, "b"), (3, "a")):
        bench.loop.submit(replace(job(handle=handle, prompt=range(40), max_tokens=1), tenant=tenant))
        bench.run()
    assert [name for e in bench.emissions for name, _ in e.cached] == [(7, 3)]


# -- preemption


@pytest.mark.parametrize(
    ("limits", "faults", "way"),
    [
        ({"spare": 1}, (), Way.KEEP),
        ({"token_bytes": 4, "parked_bytes_max": 4000}, (), Way.SAVE),
        ({"token_bytes": 4, "parked_bytes_max": 4000}, ("can_restore",), Way.SAVE),
        ({"token_bytes": 4, "parked_bytes_max": 4000}, ("can_save",), Way.SAVE),
        ({}, (), Way.RECOMPUTE),
    ],
)
def test_a_call_that_made_room_loses_and_repeats_no_token(limits: dict[str, Any], faults: tuple[str, ...], way: Way):
    bench = Bench(slots=1, **limits)
    for fault in faults:
        setattr(bench.runner, fault, False)
    bench.loop.submit(job(handle=1, max_tokens=9, priority=2))
    bench.loop._obey()
    for _ in range(3):
        bench.loop.step()
    bench.loop.submit(job(handle=2, prompt=(12,), max_tokens=2, priority=0))
    out = bench.run()
    assert [row[3:] for row in out if row[0] == 1] == [(i, 4 + i) for i in range(9)] + [(9, 0)]
    ended = [row[0] for row in out if row[2] == Finish.LENGTH]
    assert ended == [2, 1]
    assert bench.loop.counts.preemptions[way] == 1
    assert bench.runner.saved == {}


def test_what_was_saved_of_a_cancelled_call_is_dropped():
    bench = Bench(slots=1, token_bytes=4, parked_bytes_max=4000)
    bench.loop.submit(job(handle=1, max_tokens=9, priority=2))
    bench.loop._obey()
    bench.loop.step()
    bench.loop.submit(job(handle=2, prompt=(12,), max_tokens=9, priority=0))
    bench.loop._obey()
    bench.loop.step()
    assert bench.runner.saved
    bench.loop.cancel((7, 1))
    bench.run()
    assert bench.runner.saved == {}


# -- scores


def scored(handle: int, *items: tuple[list[int], int], choices: tuple[int, ...] | None = None) -> Job:
    chosen = choices if choices is not None else tuple(range(len(items)))
    return replace(
        job(handle=handle, prompt=(), choices=chosen, outputs=[()] * len(chosen), max_tokens=0),
        task=Task.SCORE, items=tuple(Item(array("I", ids), start) for ids, start in items),
    )  # fmt: skip


def scores(bench: Bench) -> dict[int, list[float]]:
    return {choice: np.frombuffer(data, np.float32).tolist() for e in bench.emissions for _, choice, data in e.results}


def test_items_are_scored_from_where_they_say_and_end_with_stop():
    bench = Bench()
    bench.loop.submit(scored(1, ([1, 2, 3, 9], 1), ([5, 6], 1), ([5, 6], 2), ([7], 1), ([4, 5, 6], 0)))
    out = bench.run()
    assert sorted(row[1:4] for row in out) == [(c, Finish.STOP, 0) for c in range(5)]
    found = scores(bench)
    likely, unlikely = 5.0 - np.log(31 + np.exp(5.0)), -np.log(31 + np.exp(5.0))
    assert found[0] == pytest.approx([likely, likely, unlikely], abs=1e-5)
    assert found[1] == pytest.approx([likely], abs=1e-5)
    assert found[2] == found[3] == []
    assert np.isnan(found[4][0])
    assert found[4][1:] == pytest.approx([likely, likely], abs=1e-5)


def test_items_that_a_takeover_asks_for_are_computed_and_no_others():
    bench = Bench()
    bench.loop.submit(scored(1, ([1, 2], 1), ([1, 3], 1), ([1, 4], 1), choices=(2,)))
    assert [row[1] for row in bench.run()] == [2]
    assert set(scores(bench)) == {2}


def test_an_item_without_numbers_fails_its_job_and_nobody_else():
    bench = Bench()
    bench.runner.nan = {20}
    bench.loop.submit(scored(1, ([1, 20, 3], 1), ([1, 2], 1)))
    bench.loop.submit(job(handle=2, max_tokens=2))
    out = bench.run()
    assert Finish.FAILED in [row[2] for row in out if row[0] == 1]
    assert [row[4] for row in out if row[0] == 2] == [4, 5, 0]


# -- adapters, and limits that change


def test_chunks_run_in_groups_of_one_adapter():
    bench = Bench()
    for handle, adapter in ((1, "b"), (2, ""), (3, "b"), (4, "no such")):
        bench.loop.submit(replace(job(handle=handle, prompt=[handle], max_tokens=1), adapter=adapter))
    out = bench.run()
    assert {row[0]: row[4] for row in out if row[2] == 0} == {1: 2, 2: 3, 3: 4}
    assert [row[0] for row in out if row[2] == Finish.FAILED] == [4]
    assert bench.runner.runs[:2] == [1, 2]
    bench.loop.submit(job(handle=5, prompt=[9], max_tokens=1))
    bench.run()
    assert bench.runner.adapters[-1] == ""


def test_limits_change_while_it_runs():
    bench = Bench(slots=2)
    bench.loop.adjust(Limits(1, 64, 16), threads=3)
    for handle in (1, 2):
        bench.loop.submit(job(handle=handle, prompt=[handle]))
    bench.run()
    assert set(bench.runner.runs) == {1}
    assert bench.runner.threads == 3
    with pytest.raises(ValueError, match="restart the worker"):
        bench.loop.adjust(Limits(3, 64, 16))
