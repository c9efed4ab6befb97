"""That a model is exact is found out, not believed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from cordee.compose import engines, quantizing
from cordee.config.load import cache_dir
from cordee.engine import exactness
from cordee.engine.job import Tokens
from cordee.engine.runner_llama import LlamaRunner
from cordee.engine.sample import Matrix
from cordee.kernels.context import Context, ContextSettings
from cordee.kernels.llama import Model
from cordee.kernels.quantize import kind_named
from cordee.policy.batch import Chunk
from tests.engine.doubles import CARD, CountingRunner
from tests.engine.real import real_library, real_model

ROWS = 64


class CompanyRunner(CountingRunner):
    """Kernels that add otherwise from so many rows, or so many sequences, on."""

    def __init__(self, rows: int = 1000, sequences: int = 1000) -> None:
        super().__init__()
        self._rows, self._sequences = rows, sequences

    def run(self, chunks: Sequence[Chunk], tokens: Sequence[Tokens]) -> Matrix:
        logits = super().run(chunks, tokens)
        if self.rows[-1] >= self._rows or len(chunks) >= self._sequences:
            logits = np.nextafter(logits, np.float32(9.0))
        return logits


def test_kernels_that_do_not_care_are_exact_and_left_empty() -> None:
    runner = CountingRunner()
    assert exactness.deviation(runner, CARD.vocabulary, 16, ROWS) == ""
    assert not any(runner.cache.values())


@pytest.mark.parametrize("rows", [2, 3, 7, 33])
def test_one_bit_that_depends_on_the_number_of_rows_is_seen(rows: int) -> None:
    assert exactness.deviation(CompanyRunner(rows=rows), CARD.vocabulary, 1, ROWS)


@pytest.mark.parametrize("sequences", [2, 4, 16])
def test_one_bit_that_depends_on_others_is_seen(sequences: int) -> None:
    assert exactness.deviation(CompanyRunner(sequences=sequences), CARD.vocabulary, 16, ROWS) == "beside 15 others"


def test_the_check_keeps_to_the_slots_and_rows_that_there_are() -> None:
    runner = CountingRunner()
    assert exactness.deviation(runner, CARD.vocabulary, 1, 16) == ""
    assert max(runner.rows) <= 16
    assert max(runner.runs) == 1


def test_a_model_that_deviates_is_not_called_exact_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    settings = ContextSettings(16, 64, ROWS, ROWS, 1, exact=True)
    assert engines.holds(CountingRunner(), "m", CARD.vocabulary, settings)
    assert not caplog.records
    assert not engines.holds(CompanyRunner(rows=33), "m", CARD.vocabulary, settings)
    assert "m is not exact here" in caplog.text
    assert "in a step of 33 rows" in caplog.text


def found(path: Path) -> str:
    model = Model(real_library(), path)
    context = Context(model, ContextSettings(16, 256, 512, 128, threads=1, exact=True))
    try:
        return exactness.deviation(LlamaRunner(context), model.size, 16, 512)
    finally:
        context.close()
        model.close()


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The default model with weights of 16 bits."""
    kind = kind_named("F16")
    assert kind is not None
    target = tmp_path_factory.mktemp("half") / "f16.gguf"
    source = quantizing.open_source(str(real_model()), str(real_library().directory), cache_dir(os.environ))
    quantizing.quantise(source, target, kind, lambda done, of: None)
    yield target
    target.unlink()


@pytest.mark.model
@pytest.mark.timeout(120)
def test_the_default_model_is_exact() -> None:
    assert found(real_model()) == ""


@pytest.mark.model
@pytest.mark.timeout(300)
def test_weights_of_sixteen_bits_are_not(half: Path) -> None:
    assert found(half)
