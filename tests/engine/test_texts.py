"""The loop of an engine that computes vectors: many jobs in a pass, each failing alone."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
import pytest

from cordee.domain.call import Item, Sampling, Task
from cordee.domain.chunk import Finish
from cordee.engine.job import Emission, Job, JobName, Tokens
from cordee.engine.loop import EngineBroken, StepFailed
from cordee.engine.runner_embed import normalised
from cordee.engine.texts import TextLoop, Vectors
from cordee.policy.texts import TextRules, Texts

LATE = 1e9


class Sums:
    """Kernels whose vector of a text is the sum and the number of its tokens."""

    def __init__(self) -> None:
        self.passes: list[int] = []
        self.poison: set[int] = set()
        self.nan: set[int] = set()

    def compute(self, texts: Sequence[Tokens]) -> Vectors:
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
    def __init__(self, texts_max: int = 8) -> None:
        self.kernels = Sums()
        self.heard: list[Emission] = []
        self.now = 0.0
        self.loop = TextLoop(self.kernels, Texts(TextRules(texts_max, 100)), lambda: self.now, self.heard.append)

    def run(self, *jobs: Job, cancel: Sequence[JobName] = (), steps: int = 3) -> None:
        for one in jobs:
            self.loop.submit(one)
        for name in cancel:
            self.loop.cancel(name)
        self.loop._obey() if jobs or cancel else None
        for _ in range(steps):
            self.loop.step()
            ready = self.loop._pending.take()
            if ready is not None:
                self.heard.append(ready)

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
    rig.run(job(1, [9]), steps=1)
    rig.run(job(2, [9]), steps=1)
    rig.run(job(3, [1]), steps=1)
    assert [end for end in rig.ends if end[2] == Finish.STOP] == [(3, 0, Finish.STOP)]


def test_an_engine_that_can_compute_nothing_ends() -> None:
    rig = Rig()
    rig.kernels.poison = {9}
    with pytest.raises(EngineBroken, match="none of 2 texts"):
        rig.run(job(1, [9], [9]))


def test_a_cancelled_job_is_forgotten_and_said_to_be() -> None:
    rig = Rig(texts_max=1)
    rig.run(job(1, [1], [2]), steps=1)
    rig.run(cancel=[(1, 1)])
    assert len(rig.results) == 1
    assert [one.cancelled for one in rig.heard if one.cancelled] == [[(1, 1)]]
    rig.run(cancel=[(1, 1)])  # twice is no error


def test_a_late_text_expires() -> None:
    rig = Rig()
    rig.now = 5.0
    rig.run(job(1, [1], deadline_s=4.0), job(2, [1], deadline_s=6.0))
    assert rig.ends == [(1, 0, Finish.EXPIRED), (2, 0, Finish.STOP)]


def test_vectors_have_length_one_but_zeros_stay() -> None:
    assert normalised(np.array([3, 4], np.float32)).tolist() == pytest.approx([0.6, 0.8])
    assert normalised(np.zeros(2, np.float32)).tolist() == [0, 0]
