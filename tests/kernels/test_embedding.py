"""A text's vector does not depend on the company it is computed in, where that was promised."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import EMBEDDING, resolve
from cordee.config.load import cache_dir
from cordee.kernels import embedding as kernels
from cordee.kernels.embedding import FLASH_ROWS, Embedding, EmbeddingSettings, Ids, Vector, rows_of
from cordee.kernels.llama import Model
from tests.engine.real import real_library

pytestmark = pytest.mark.model
CONTEXT = 512
ALMOST = 0.998  # cosine of vectors that were computed in different company
CLOSE = 0.9995  # of vectors whose attention was computed in another way


@pytest.fixture(scope="module")
def model() -> Iterator[Model]:
    try:
        path = resolve(EMBEDDING, cache_dir(os.environ)).path
    except ModelError as error:
        pytest.skip(str(error))
    assert path is not None
    opened = Model(real_library(), path)
    yield opened
    opened.close()


def ids(model: Model, text: str) -> Ids:
    return np.array(model.tokenize(text.encode(), special=False, whole=True), np.int32)


def texts(model: Model) -> list[Ids]:
    """Of lengths on both sides of where attention is computed otherwise."""
    rng = np.random.default_rng(7)
    some = [
        rng.integers(2000, 29000, length).astype(np.int32) for length in (1, 3, 17, 31, 47, 49, 62, 63, 64, 65, 130)
    ]
    return [*some, ids(model, "A cat sits on the mat.")]


def cosine(one: Vector, other: Vector) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_exact_vectors_are_the_same_alone_together_and_on_any_lane(model: Model) -> None:
    wanted = texts(model)
    one = Embedding(model, EmbeddingSettings(CONTEXT, 128, 1, exact=True))
    two = Embedding(model, EmbeddingSettings(CONTEXT, 128, 2, exact=True))
    try:
        alone = [one.compute(0, [text])[0] for text in wanted]
        for lane in (0, 1, 0):
            for mine, other in zip(alone, two.compute(lane, wanted), strict=True):
                assert np.array_equal(mine, other)
    finally:
        one.close()
        two.close()


def test_packed_vectors_are_nearly_the_same(model: Model) -> None:
    wanted = texts(model)
    exact = Embedding(model, EmbeddingSettings(CONTEXT, 128, 1, exact=True))
    packed = Embedding(model, EmbeddingSettings(CONTEXT, 128, 1, exact=False))
    try:
        for text, vector in zip(wanted, packed.compute(0, wanted), strict=True):
            assert cosine(exact.compute(0, [text])[0], vector) > ALMOST
    finally:
        exact.close()
        packed.close()


def test_rows_for_a_round_number_are_nothing_to_the_vector(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = texts(model)
    embedding = Embedding(model, EmbeddingSettings(CONTEXT, 128, 1, exact=True))
    try:
        rounded = embedding.compute(0, wanted)
        monkeypatch.setattr(kernels, "rows_of", lambda length: length)
        for plain, other in zip(embedding.compute(0, wanted), rounded, strict=True):
            assert cosine(plain, other) > CLOSE
    finally:
        embedding.close()


def test_a_context_shorter_than_a_round_number_has_room_for_it(model: Model) -> None:
    embedding = Embedding(model, EmbeddingSettings(50, 128, 1, exact=True))
    try:
        assert np.isfinite(embedding.compute(0, [np.full(50, 2000, np.int32)])[0]).all()
    finally:
        embedding.close()


def test_likeness_is_as_the_models_authors_have_it(model: Model) -> None:
    """The first two are 0.755 with the original weights in 32 bits."""
    said = ("A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby.")
    embedding = Embedding(model, EmbeddingSettings(CONTEXT, 128, 1, exact=True))
    try:
        food, bread, baby = embedding.compute(0, [ids(model, text) for text in said])
    finally:
        embedding.close()
    assert cosine(food, bread) == pytest.approx(0.755, abs=0.01)
    assert cosine(food, baby) < 0.0
    assert embedding.width == len(food) == 384


def test_two_texts_are_put_together_with_what_separates_them(model: Model) -> None:
    before, between, behind = model.separators()
    assert list(before) == [101]
    assert set(between) == {102}
    assert list(behind) == [102]


def test_a_text_gets_more_rows_only_where_that_takes_less_time() -> None:
    assert [rows_of(length) for length in (1, 12, 15, 30, 31, 33, 42, 46)] == [1, 12, 15, 32, 32, 33, 42, 48]
    assert {rows_of(length) for length in range(49, FLASH_ROWS + 1)} == {FLASH_ROWS}
    assert [rows_of(length) for length in (65, 152)] == [65, 152]
