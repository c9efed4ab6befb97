from __future__ import annotations

import threading

import pytest

from cordee.domain.chunk import Finish
from cordee.engine.job import Emission
from cordee.engine.loop import EngineBroken, StepLoop
from cordee.engine.sample import Sampler
from cordee.policy.batch import Limits, Planner
from tests.engine.doubles import CARD, END, CountingRunner, ManualClock, job, rows


class Bench:
    """A loop whose steps are called by hand."""

    def __init__(self, slots: int = 4) -> None:
        self.runner = CountingRunner()
        self.clock = ManualClock()
        self.emissions: list[Emission] = []
        self.loop = StepLoop(
            self.runner, Planner(Limits(slots, 64, 16)), Sampler(CARD.vocabulary, [END]), frozenset({END}),
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
