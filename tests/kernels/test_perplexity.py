"""The measure of a text, and of the difference between two models."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cordee.kernels.perplexity import growth, perplexity


def test_a_model_that_guesses_among_ten_has_a_perplexity_of_ten() -> None:
    found = perplexity(np.full(50, math.log(10)))
    assert found.value == pytest.approx(10)
    assert found.error == pytest.approx(0, abs=1e-9)


def test_what_both_find_hard_cancels_out_of_the_difference() -> None:
    hard = np.random.default_rng(1).exponential(3, 500)
    found = growth(hard, hard + 0.01)
    assert found.value == pytest.approx(math.expm1(0.01))
    assert found.error < 1e-9 < perplexity(hard).error
