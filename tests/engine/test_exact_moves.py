"""Answers are the same bit for bit whatever the scheduler does with them: preempted, saved, moved, begun from what others computed."""

from __future__ import annotations

import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from cordee.domain.call import Item, Task
from cordee.domain.chunk import Finish
from cordee.engine.job import Job
from cordee.engine.loop import StepLoop
from cordee.engine.runner_llama import LlamaRunner
from cordee.engine.sample import Sampler
from cordee.kernels.context import Context, ContextSettings
from cordee.kernels.llama import Model
from cordee.policy.batch import Limits, Planner, Way
from tests.engine.doubles import job, rows
from tests.engine.real import real_library, real_model

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

SLOTS, SPARE, CONTEXT, BATCH = 3, 1, 768, 256
TEXT = (
    "The guide ties the rope, looks at the sky and counts the climbers. One of them asks how far it is to the hut; "
    "nobody answers. A river of ice, slow and blue, turns below the ridge. "
)


class Bench:
    """The production loop on the production runner, stepped by hand. Each has a planner of its own on the one context."""

    def __init__(self, context: Context, **limits: Any) -> None:
        model = context.model
        for slot in range(SLOTS + SPARE):
            assert context.cut(slot, 0)
        self.found: dict[tuple[int, int], list[int]] = defaultdict(list)
        self.cached: list[tuple[Any, int]] = []
        self.results: list[tuple[Any, int, bytes]] = []
        self.planner = Planner(Limits(**{"slots": SLOTS, "batch_tokens": BATCH, "prefill_tokens_max": 64, **limits}))
        self.loop = StepLoop(
            LlamaRunner(context), self.planner, Sampler(model.size, model.ends()), frozenset(model.ends()), CONTEXT,
            time.monotonic, lambda _: None,
        )  # fmt: skip

    def begin(self, one: Job) -> None:
        self.loop.submit(one)
        self.loop._obey()

    def steps(self, count: int = 10**6) -> None:
        while count and not self.planner.idle():
            count -= 1
            self.loop.step()
        ready = self.loop._pending.take()
        if ready is None:
            return
        assert ready.failures == []
        self.cached += ready.cached
        self.results += ready.results
        for handle, choice, finish, _, token in rows([ready]):
            if finish == Finish.NONE:
                self.found[handle, choice].append(token)


@pytest.fixture(scope="module")
def context() -> Iterator[Context]:
    model = Model(real_library(), real_model())
    made = Context(model, ContextSettings(SLOTS, CONTEXT, BATCH, 128, 1, exact=True, spare=SPARE))
    yield made
    made.close()
    model.close()


@pytest.fixture(scope="module")
def long(context: Context) -> list[int]:
    """A prompt of more than 512 tokens."""
    ids = list(context.model.tokenize((TEXT * 14).encode(), special=False))[:560]
    assert len(ids) > 512
    return ids


def alone(context: Context, one: Job) -> list[int]:
    bench = Bench(context, keeps_prefixes=False)
    bench.begin(one)
    bench.steps()
    return bench.found[one.name[1], 0]


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"temperature": 1.0}], ids=["greedy", "seeded"])
def test_what_others_have_computed_changes_no_token(context: Context, long: list[int], sampling: dict[str, Any]):
    asked = job(2, long[:540], max_tokens=24, seed=5, ignore_eos=True, **sampling)
    expected = alone(context, asked)
    bench = Bench(context)
    bench.begin(job(1, long[:530], max_tokens=8, ignore_eos=True))
    bench.steps()
    bench.begin(asked)  # in the slot of one that has ended
    bench.steps()
    ((name, cached),) = bench.cached
    assert name == (7, 2)
    assert cached >= 530
    assert bench.found[2, 0] == expected
    bench.begin(job(3, long[:400], max_tokens=60, ignore_eos=True))
    bench.steps(4)
    bench.begin(job(4, long[:540], max_tokens=24, seed=5, ignore_eos=True, **sampling))  # copied beside one that runs
    bench.steps()
    assert bench.found[4, 0] == expected


@pytest.mark.parametrize(
    ("spare", "limits", "way"),
    [
        (1, {}, Way.KEEP),
        (0, {"token_bytes": 23040, "parked_bytes_max": 1 << 28, "slot_bytes": 10**12}, Way.SAVE),
        (0, {}, Way.RECOMPUTE),
    ],
    ids=["kept", "saved", "recomputed"],
)
@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"temperature": 1.0}], ids=["greedy", "seeded"])
def test_one_that_made_room_goes_on_as_if_nothing_had_been(
    context: Context, long: list[int], sampling: dict[str, Any], spare: int, limits: dict[str, Any], way: Way
):
    asked = job(1, long[:200], max_tokens=40, seed=9, ignore_eos=True, priority=2, **sampling)
    expected = alone(context, asked)
    bench = Bench(context, slots=1, spare=spare, **limits)
    bench.begin(asked)
    bench.steps(12)
    for handle in (2, 3):
        bench.begin(job(handle, long[200 + handle : 260], max_tokens=4, priority=0, ignore_eos=True))
        bench.steps(6)
    bench.steps()
    assert bench.loop.counts.preemptions[way] == 2
    assert bench.found[1, 0] == expected


def test_choices_that_are_copied_and_parked_answer_as_alone(context: Context, long: list[int]):
    expected = [
        alone(context, job(1, long[:60], max_tokens=20, seed=3 + choice, temperature=1.0, ignore_eos=True))
        for choice in range(3)
    ]
    bench = Bench(context, spare=SPARE)
    bench.begin(
        job(1, long[:60], outputs=((), (), ()), choices=(0, 1, 2), max_tokens=20, seed=3, temperature=1.0, priority=2,
            ignore_eos=True)
    )  # fmt: skip
    bench.steps(6)
    bench.begin(job(2, long[100:160], max_tokens=5, priority=0, ignore_eos=True))
    bench.begin(job(3, long[160:200], max_tokens=5, priority=0, ignore_eos=True))
    bench.steps()
    assert sum(bench.loop.counts.preemptions.values()) == 2
    assert [bench.found[1, choice] for choice in range(3)] == expected


def test_scores_are_the_log_probabilities_of_drawn_tokens_and_the_same_from_any_beginning(
    context: Context, long: list[int]
):
    bench = Bench(context)
    bench.begin(job(1, long[:300], max_tokens=100, ignore_eos=True, logprobs=0))
    bench.steps(150)
    whole = [*long[:300], *bench.found[1, 0]]
    item = Item(array("I", whole), 100)
    nothing = np.empty(0, np.int32)
    scored = replace(job(2, (), max_tokens=0), prompt=nothing, task=Task.SCORE, items=(item,))
    first, second = Bench(context), Bench(context)
    first.begin(scored)
    first.steps()
    second.begin(job(3, long[:300], max_tokens=4, ignore_eos=True))
    second.steps()
    second.begin(scored)
    second.steps()
    assert second.loop.counts.cached_tokens >= 96
    (found,), (again,) = first.results, second.results
    assert found[2] == again[2]
    scores = np.frombuffer(found[2], np.float32)
    assert len(scores) == len(whole) - 100
    assert np.isfinite(scores).all()
    assert (scores <= 0).all()


def test_a_step_can_be_stopped_from_outside_and_undone(context: Context, long: list[int]):
    context.tokens[:256] = long[:256]
    context.positions[:256] = range(256)
    context.slots[:256] = 0
    context.wanted[:256] = 0
    assert context.cut(0, 0)
    timer = threading.Timer(0.02, context.abort)
    timer.start()
    assert context.decode(256) != 0
    timer.join()
    assert context.cut(0, 0)
    expected = alone(context, job(1, long[:40], max_tokens=4, ignore_eos=True))
    assert len(expected) == 4
