"""Answers are the same bit for bit: alone, in a batch, among choices, and cut anywhere and continued."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from cordee.domain.chunk import Finish
from cordee.engine.job import Emission, Job
from cordee.engine.loop import StepLoop
from cordee.engine.runner_llama import LlamaRunner
from cordee.engine.sample import Sampler
from cordee.kernels.context import Context, ContextSettings
from cordee.kernels.llama import Model
from cordee.policy.batch import Limits, Planner
from tests.engine.doubles import job, rows
from tests.engine.real import real_library, real_model

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

PROMPTS, TOKENS, SLOTS, CONTEXT = 20, 32, 16, 256
THREADS = 1  # more spin while they wait for each other, and crawl when other tests run beside
LINES = (
    "The {} of the mountain", "def {}(values):\n    ", "Once upon a time there was a {}", "Question: what is a {}?\nAnswer:",
    "A list of five kinds of {}:\n1.",
)  # fmt: skip
NOUNS = ("guide", "river", "sort", "glacier")


class Bench:
    """The production loop on the production runner, stepped by hand."""

    def __init__(self, context: Context) -> None:
        self.emissions: list[Emission] = []
        model = context.model
        limits = Limits(SLOTS, 512, 64)
        self.loop = StepLoop(
            LlamaRunner(context), Planner(limits), Sampler(model.size, model.ends()), frozenset(model.ends()), CONTEXT,
            time.monotonic, self.emissions.append,
        )  # fmt: skip

    def answers(self, jobs: list[Job]) -> dict[tuple[int, int], list[int]]:
        """All tokens of all jobs, run together, by (handle, choice)."""
        for one in jobs:
            self.loop.submit(one)
        self.loop._obey()
        while not self.loop._planner.idle():
            self.loop.step()
        ready = self.loop._pending.take()
        assert ready is not None
        assert ready.failures == []
        found: dict[tuple[int, int], list[int]] = defaultdict(list)
        for handle, choice, finish, _, token in rows([ready]):
            if finish == Finish.NONE:
                found[handle, choice].append(token)
        return dict(found)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    model = Model(real_library(), real_model())
    context = Context(model, ContextSettings(SLOTS, CONTEXT, 512, 128, THREADS, exact=True))
    yield Bench(context)
    context.close()
    model.close()


@pytest.fixture(scope="module")
def prompts(bench: Bench) -> list[list[int]]:
    model = bench.loop._runner._context.model  # type: ignore[attr-defined]  # the real runner has one
    return [list(model.tokenize(line.format(noun).encode(), special=False)) for line in LINES for noun in NOUNS]


@pytest.mark.parametrize(
    ("sampling", "count"),
    [
        ({"temperature": 0.0}, PROMPTS),
        ({"temperature": 1.0}, 8),
        ({"temperature": 0.8, "top_p": 0.9, "presence_penalty": 0.5}, 5),
    ],
    ids=["greedy", "temperature 1", "penalties"],
)
def test_alone_batched_and_continued_are_bitwise_the_same(
    bench: Bench, prompts: list[list[int]], sampling: dict[str, Any], count: int
):
    jobs = [job(i, p, max_tokens=TOKENS, seed=i, ignore_eos=True, **sampling) for i, p in enumerate(prompts[:count])]
    assert len(jobs) == count
    alone = {key: out for one in jobs for key, out in bench.answers([one]).items()}
    assert all(len(out) == TOKENS for out in alone.values())
    assert bench.answers(jobs) == alone
    cuts = Random(1)
    rest, expected = [], {}
    for i, prompt in enumerate(prompts[:count]):
        cut = cuts.randrange(1, TOKENS)
        output = alone[i, 0][:cut]
        rest.append(job(i, prompt, outputs=(output,), max_tokens=TOKENS, seed=i, ignore_eos=True, **sampling))
        expected[i, 0] = alone[i, 0][cut:]
    assert bench.answers(rest) == expected


def test_choices_that_share_a_prompt_are_those_of_calls_of_their_own(bench: Bench, prompts: list[list[int]]):
    for i, prompt in enumerate(prompts[:4]):
        together = bench.answers(
            [job(1, prompt, outputs=((), (), ()), choices=(0, 1, 2), max_tokens=24, seed=i, temperature=1.0)]
        )
        for choice in range(3):
            apart = bench.answers([job(1, prompt, max_tokens=24, seed=i + choice, temperature=1.0)])
            assert together.get((1, choice)) == apart.get((1, 0))


def test_choices_continue_from_different_places(bench: Bench, prompts: list[list[int]]):
    whole = bench.answers(
        [job(1, prompts[0], outputs=((), (), ()), choices=(0, 1, 2), max_tokens=24, temperature=1.0, ignore_eos=True)]
    )
    cuts = (0, 5, 20)
    rest = bench.answers(
        [
            job(
                1, prompts[0], outputs=[whole[1, c][: cuts[c]] for c in range(3)], choices=(0, 1, 2), max_tokens=24,
                temperature=1.0, ignore_eos=True,
            )
        ]
    )  # fmt: skip
    assert rest == {(1, c): whole[1, c][cuts[c] :] for c in range(3)}


def test_a_long_prompt_beside_others_changes_nobody(bench: Bench, prompts: list[list[int]]):
    long = (prompts[0] * 60)[:180]
    jobs = [
        job(1, long, max_tokens=16, ignore_eos=True),
        *(job(2 + i, p, max_tokens=16, ignore_eos=True) for i, p in enumerate(prompts[:6])),
    ]
    alone = {key: out for one in jobs for key, out in bench.answers([one]).items()}
    assert bench.answers(jobs) == alone
