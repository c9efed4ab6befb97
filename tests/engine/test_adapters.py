"""Answers with an adapter are the same bit for bit: alone, beside others with another one or none, and cut anywhere and continued."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cordee.engine.job import Emission, Job
from cordee.engine.loop import StepLoop
from cordee.engine.runner_llama import LlamaRunner
from cordee.engine.sample import Sampler
from cordee.kernels.adapters import Adapters
from cordee.kernels.context import Context, ContextSettings
from cordee.kernels.library import KernelsError
from cordee.kernels.llama import Model
from cordee.kernels.lora import Lora
from cordee.policy.batch import Limits, Planner
from tests.engine.doubles import job, rows
from tests.engine.real import real_library, real_model
from tests.lora_files import of_model

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

SLOTS, CONTEXT, TOKENS = 6, 128, 12
LINES = ("The guide of the mountain", "Once upon a time there was a river", "def sort(values):\n    ")


class Bench:
    """The production loop on the production runner, stepped by hand."""

    def __init__(self, model: Model, context: Context, adapters: Adapters) -> None:
        self.emissions: list[Emission] = []
        self.loop = StepLoop(
            LlamaRunner(context, adapters), Planner(Limits(SLOTS, 256, 64)), Sampler(model.size, model.ends()),
            frozenset(), CONTEXT, time.monotonic, self.emissions.append,
        )  # fmt: skip

    def answers(self, jobs: list[Job]) -> tuple[dict[int, list[int]], dict[int, str]]:
        """Tokens, and why they failed, by handle."""
        for one in jobs:
            self.loop.submit(one)
        self.loop._obey()
        while not self.loop._planner.idle():
            self.loop.step()
        ready = self.loop._pending.take()
        assert ready is not None
        found: dict[int, list[int]] = {}
        for handle, _, finish, _, token in rows([ready]):
            if not finish:
                found.setdefault(handle, []).append(token)
        return found, {name[1]: why for name, why in ready.failures}


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    opened = Model(real_library(), real_model())
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def bench(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("adapters")
    loras = tuple(
        Lora(name, of_model(folder / f"{name}.gguf", real_model(), seed), 1.0, "")
        for seed, name in enumerate(("one", "two"))
    )
    context = Context(model, ContextSettings(SLOTS, CONTEXT, 256, 64, 1, exact=True))
    yield Bench(model, context, Adapters(model, loras))
    context.close()


def asked(model: Model, handle: int, line: str, adapter: str, **sampling: Any) -> Job:
    prompt = list(model.tokenize(line.encode(), special=False))
    return replace(job(handle, prompt, max_tokens=TOKENS, **sampling), adapter=adapter)


def test_an_adapter_changes_the_answer(bench: Bench, model: Model) -> None:
    each = [bench.answers([asked(model, 1, LINES[0], name)])[0][1] for name in ("", "one", "two")]
    assert each[0] != each[1] != each[2] != each[0]


@pytest.mark.parametrize("sampling", [{}, {"temperature": 0.9, "seed": 7}], ids=["greedy", "seeded"])
def test_answers_are_those_of_being_alone(bench: Bench, model: Model, sampling: dict[str, float]) -> None:
    jobs = [
        asked(model, 1 + at, LINES[at % len(LINES)], ("", "one", "two")[at // len(LINES)], **sampling)
        for at in range(3 * len(LINES))
    ]
    alone = {one.name[1]: bench.answers([one])[0][one.name[1]] for one in jobs}
    together, failures = bench.answers(jobs)
    assert not failures
    assert together == alone


def test_what_a_takeover_continues_is_the_same(bench: Bench, model: Model) -> None:
    whole = asked(model, 1, LINES[1], "one", temperature=0.9, seed=3)
    full = bench.answers([whole])[0][1]
    for cut in (1, TOKENS - 1):
        rest = replace(whole, outputs=(np.array(full[:cut], np.int32),))
        beside = asked(model, 2, LINES[2], "two")
        assert full[:cut] + bench.answers([rest, beside])[0][1] == full


def test_one_that_is_not_there_fails_alone(bench: Bench, model: Model) -> None:
    found, failures = bench.answers([asked(model, 1, LINES[0], "three"), asked(model, 2, LINES[0], "")])
    assert failures == {1: "the adapter 'three' is not loaded"}
    assert len(found[2]) == TOKENS


def test_what_was_computed_with_one_is_not_used_for_another(bench: Bench, model: Model) -> None:
    line = "A long common beginning of many words, which is worth keeping, because it is asked again and again. " * 2
    first = bench.answers([asked(model, 1, line, "one")])[0][1]
    plain = bench.answers([asked(model, 2, line, "")])[0][2]
    again = bench.answers([asked(model, 3, line, "one")])[0][3]
    assert again == first != plain


def test_a_file_that_the_kernels_refuse_is_an_error_and_no_crash(model: Model, tmp_path: Path) -> None:
    with pytest.raises(KernelsError, match="could not be loaded as the adapter 'gone'"):
        Adapters(model, (Lora("gone", tmp_path / "gone.gguf", 1.0, ""),))
