"""The loop of an engine that computes vectors: many jobs in a portion, each failing alone, and no lane without work."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from queue import SimpleQueue
from threading import Barrier, Thread

import numpy as np
import pytest

from cordee.domain.call import Item, Sampling, Task
from cordee.domain.chunk import Finish
from cordee.engine.job import Emission, Job, JobName, Tokens
from cordee.engine.loop import EngineBroken, StepFailed
from cordee.engine.runner_embed import normalised
from cordee.engine.texts import Outcome, Portion, TextLoop, Vectors, computed
from cordee.policy.texts import TextRules, Texts

LATE = 1e9
PATIENCE_S = 30.0
BAD = 666  # the first token of a text that ends a lane


class Sums:
    """Kernels whose vector of a text is the sum and the number of its tokens."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.poison: set[int] = set()
        self.nan: set[int] = set()

    def compute(self, lane: int, texts: Sequence[Tokens]) -> Vectors:
        self.passes.append(len(texts))
        if any(set(ids.tolist()) & self.poison for ids in texts):
            raise StepFailed("poison")
        return [
            np.array([np.nan if set(ids.tolist()) & self.nan else ids.sum(), len(ids)], np.float32) for ids in texts
        ]


def job(handle: int, *texts: Sequence[int], choices: Sequence[int] | None = None, deadline_s: float = LATE) -> Job:
    chosen = tuple(choices if choices is not None else range(len(texts)))
    empty = np.empty(0, np.int32)
    return Job(
        (1, handle), empty, chosen, (empty,) * len(chosen), 0, deadline_s, 1, Sampling(), task=Task.EMBED,
        items=tuple(Item(array("I", text)) for text in texts),
    )  # fmt: skip


class Rig:
    """The loop on this thread: `run` is a single lane until nothing is left to do; `turn` is one turn of any lane."""

    def __init__(self, texts_max: int = 8, lanes: int = 1) -> None:
        self.kernels = Sums()
        self.heard: list[Emission] = []
        self.now = 0.0
        rules = TextRules(texts_max, 100, lanes)
        self.loop = TextLoop(self.kernels, Texts(rules), lambda: self.now, self.heard.append)

    def turn(self, *jobs: Job, cancel: Sequence[JobName] = (), done: Portion | None = None) -> Portion | None:
        for one in jobs:
            self.loop.submit(one)
        for name in cancel:
            self.loop.cancel(name)
        return self.loop.turn(self.compute(done) if done is not None else None)

    def compute(self, portion: Portion) -> Outcome:
        return computed(self.kernels, 0, portion)

    def run(self, *jobs: Job, cancel: Sequence[JobName] = ()) -> None:
        portion = self.turn(*jobs, cancel=cancel)
        while portion is not None:
            portion = self.turn(done=portion)

    @property
    def results(self) -> dict[tuple[JobName, int], list[float]]:
        return {(name, at): np.frombuffer(data, "<f4").tolist() for one in self.heard for name, at, data in one.results}

    @property
    def ends(self) -> list[tuple[int, int, int]]:
        """(handle, choice, finish), in order."""
        return [(int(row["handle"]), int(row["choice"]), int(row["finish"])) for one in self.heard for row in one.rows]


def test_texts_of_many_jobs_share_a_pass_and_each_has_its_own_vector() -> None:
    rig = Rig()
    rig.run(job(1, [1, 2], [5]), job(2, [7]))
    assert rig.kernels.passes == [3]
    assert rig.results == {((1, 1), 0): [3, 2], ((1, 1), 1): [5, 1], ((1, 2), 0): [7, 1]}
    assert rig.ends == [(1, 0, Finish.STOP), (1, 1, Finish.STOP), (2, 0, Finish.STOP)]


def test_only_the_choices_that_are_asked_for_are_computed() -> None:
    rig = Rig()
    rig.run(job(1, [1], [2], [3], choices=[1]))
    assert list(rig.results) == [((1, 1), 1)]


def test_a_text_that_cannot_be_computed_fails_its_job_alone() -> None:
    rig = Rig()
    rig.kernels.poison = {9}
    rig.run(job(1, [1], [9], [2]), job(2, [3]))
    assert ((1, 2), 0) in rig.results
    (failures,) = [one.failures for one in rig.heard if one.failures]
    assert failures == [((1, 1), "item 1 of 1 tokens: poison")]
    assert (1, 1, Finish.FAILED) in rig.ends


def test_a_vector_that_is_no_number_fails_its_job() -> None:
    rig = Rig()
    rig.kernels.nan = {9}
    rig.run(job(1, [9]), job(2, [1]))
    assert list(rig.results) == [((1, 2), 0)]
    assert rig.ends == [(1, 0, Finish.FAILED), (2, 0, Finish.STOP)]


def test_one_job_that_always_fails_does_not_break_the_engine() -> None:
    rig = Rig()
    rig.kernels.poison = {9}
    rig.run(job(1, [9]))
    rig.run(job(2, [9]))
    rig.run(job(3, [1]))
    assert [end for end in rig.ends if end[2] == Finish.STOP] == [(3, 0, Finish.STOP)]


def test_a_job_of_nothing_but_poison_fails_alone_however_many_portions_it_fills() -> None:
    rig = Rig(texts_max=2)
    rig.kernels.poison = {9}
    begun = [rig.turn(job(1, *[[9]] * 20)), *(rig.turn() for _ in range(4))]
    for portion in begun:
        rig.turn(done=portion)
    assert [len(one.failures) for one in rig.heard if one.failures] == [1]
    rig.run(job(2, [1]))
    assert rig.ends == [(1, 0, Finish.FAILED), (2, 0, Finish.STOP)]


def test_an_engine_that_can_compute_nothing_ends() -> None:
    rig = Rig()
    rig.kernels.poison = {9}
    with pytest.raises(EngineBroken, match="none of 2 texts"):
        rig.run(job(1, [9]), job(2, [9]))


def test_an_engine_that_can_compute_no_job_alone_ends() -> None:
    rig = Rig()
    rig.kernels.poison = {9}
    rig.run(job(1, [9]))
    rig.run(job(2, [9]))
    with pytest.raises(EngineBroken, match="none of 1 texts"):
        rig.run(job(3, [9]))


def test_a_text_that_comes_while_a_lane_computes_is_taken_by_another() -> None:
    rig = Rig(lanes=2)
    slow = rig.turn(job(1, [1]))
    quick = rig.turn(job(2, [2]), job(3, [3]))
    assert slow is not None
    assert quick is not None
    assert (slow.numbers, quick.numbers) == ([1], [2])
    last = rig.turn(done=quick)
    assert last is not None
    assert last.numbers == [3]
    assert rig.ends == [(2, 0, Finish.STOP)]


def test_what_was_cancelled_while_it_was_computed_is_not_emitted() -> None:
    rig = Rig()
    portion = rig.turn(job(1, [1]))
    rig.turn(cancel=[(1, 1)], done=portion)
    assert not rig.results
    assert [one.cancelled for one in rig.heard if one.cancelled] == [[(1, 1)]]


def test_a_cancelled_job_is_forgotten_and_said_to_be() -> None:
    rig = Rig(texts_max=1)
    second = rig.turn(done=rig.turn(job(1, [1], [2], [3])))
    assert rig.turn(cancel=[(1, 1)], done=second) is None
    assert len(rig.results) == 1
    assert [one.cancelled for one in rig.heard if one.cancelled] == [[(1, 1)]]
    rig.run(cancel=[(1, 1)])  # twice is no error


class Together(Sums):
    """Kernels that compute two texts at the same time or not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.both = Barrier(2)

    def compute(self, lane: int, texts: Sequence[Tokens]) -> Vectors:
        assert BAD not in texts[0], "a mistake"
        self.both.wait(PATIENCE_S)
        return super().compute(lane, texts)


class Lanes:
    """The loop in two threads of its own, until the block ends."""

    def __init__(self) -> None:
        self.heard: SimpleQueue[Emission] = SimpleQueue()
        self.lost: list[Exception] = []
        rules = TextRules(8, 100, lanes=2)
        self.loop = TextLoop(Together(), Texts(rules), lambda: 0.0, self.heard.put)
        self.threads = [Thread(target=self._run, args=(lane,), daemon=True) for lane in range(2)]

    def __enter__(self) -> Lanes:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.stop()
        self.join()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()

    def _run(self, lane: int) -> None:
        try:
            self.loop.run(lane)
        except AssertionError as error:
            self.lost.append(error)


def test_lanes_compute_at_the_same_time_whether_texts_come_together_or_not() -> None:
    with Lanes() as lanes:
        lanes.loop.submit(job(1, [1], [2]))
        lanes.loop.submit(job(2, [3]))
        lanes.loop.submit(job(3, [4]))
        found: set[tuple[int, int]] = set()
        while len(found) < 4:
            found |= {(name[1], at) for name, at, _ in lanes.heard.get(timeout=PATIENCE_S).results}
    assert found == {(1, 0), (1, 1), (2, 0), (3, 0)}


def test_lanes_that_rest_end_when_they_are_told_to() -> None:
    with Lanes() as lanes:
        lanes.loop.stop()
        lanes.join()
    assert not lanes.lost


def test_a_mistake_in_one_lane_ends_the_others_too() -> None:
    lanes = Lanes()
    lanes.loop.submit(job(1, [BAD]))
    with lanes:
        lanes.join()
    assert [str(error).split("\n")[0] for error in lanes.lost] == ["a mistake"]


def test_a_late_text_expires() -> None:
    rig = Rig()
    rig.now = 5.0
    rig.run(job(1, [1], deadline_s=4.0), job(2, [1], deadline_s=6.0))
    assert rig.ends == [(1, 0, Finish.EXPIRED), (2, 0, Finish.STOP)]


def test_vectors_have_length_one_but_zeros_stay() -> None:
    assert normalised(np.array([3, 4], np.float32)).tolist() == pytest.approx([0.6, 0.8])
    assert normalised(np.zeros(2, np.float32)).tolist() == [0, 0]
