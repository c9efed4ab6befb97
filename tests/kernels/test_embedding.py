"""A text's vector does not depend on the company it is computed in, where that was promised."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from cordee.adapters.model_sources import ModelError
from cordee.adapters.models import EMBEDDING, resolve
from cordee.config.load import cache_dir
from cordee.kernels.embedding import Embedding, EmbeddingSettings, Ids, Vector
from cordee.kernels.llama import Model
from tests.engine.real import real_library

pytestmark = pytest.mark.model
CONTEXT = 512
ALMOST = 0.998  # cosine of vectors that were computed in different company


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
    some = [rng.integers(2000, 29000, length).astype(np.int32) for length in (3, 17, 62, 63, 64, 65, 130)]
    return [*some, ids(model, "A cat sits on the mat.")]


def cosine(one: Vector, other: Vector) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_exact_vectors_are_the_same_alone_together_and_on_any_lane(model: Model) -> None:
    wanted = texts(model)
    one = Embedding(model, EmbeddingSettings(CONTEXT, 128, 1, exact=True))
    two = Embedding(model, EmbeddingSettings(CONTEXT, 128, 2, exact=True))
    try:
        alone = [one.compute([text])[0] for text in wanted]
        for _ in range(2):
            for mine, other in zip(alone, two.compute(wanted), strict=True):
                assert np.array_equal(mine, other)
    finally:
        one.close()
        two.close()


def test_packed_vectors_are_nearly_the_same(model: Model) -> None:
    wanted = texts(model)
    exact = Embedding(model, EmbeddingSettings(CONTEXT, 128, 1, exact=True))
    packed = Embedding(model, EmbeddingSettings(CONTEXT, 128, 1, exact=False))
    try:
        for text, vector in zip(wanted, packed.compute(wanted), strict=True):
            assert cosine(exact.compute([text])[0], vector) > ALMOST
    finally:
        exact.close()
        packed.close()


def test_likeness_is_as_the_models_authors_have_it(model: Model) -> None:
    """The first two are 0.755 with the original weights in 32 bits."""
    said = ("A man is eating food.", "A man is eating a piece of bread.", "The girl is carrying a baby.")
    embedding = Embedding(model, EmbeddingSettings(CONTEXT, 128, 1, exact=True))
    try:
        food, bread, baby = embedding.compute([ids(model, text) for text in said])
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
