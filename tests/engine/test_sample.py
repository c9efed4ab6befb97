from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cordee.domain.call import Sampling
from cordee.engine.sample import Draw, Sampler, Voice
from tests.engine.doubles import tokens

SIZE = 600  # more than two blocks, and no whole number of them
ENDS = (3, 5)


def voice(seed: int = 0, prompt: tuple[int, ...] = (1,), output: tuple[int, ...] = (), **sampling: Any) -> Voice:
    return Voice(Sampling(**sampling), seed, tokens(*prompt), tokens(*output))


def logits(seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return (np.random.default_rng(seed).normal(size=SIZE) * 3).astype(np.float32)


def draw(row: np.ndarray[Any, Any], speaker: Voice, position: int = 0) -> Draw:
    return Sampler(SIZE, ENDS).draw(row[None].copy(), [speaker], [position])[0]


def shares(row: np.ndarray[Any, Any], n: int = 4000, **sampling: Any) -> dict[int, float]:
    """How often each token comes over many positions."""
    sampler, speaker = Sampler(SIZE, ENDS), voice(seed=11, **sampling)
    counts = Counter(sampler.draw(row[None].copy(), [speaker], [i])[0].token for i in range(n))
    return {token: count / n for token, count in counts.items()}


def test_zero_temperature_takes_the_likeliest_and_the_first_of_equals():
    row = logits()
    row[[40, 20]] = 99
    assert draw(row, voice(temperature=0.0)).token == 20


def test_rows_do_not_influence_each_other():
    rows = np.stack([logits(i) for i in range(6)])
    voices = [
        voice(temperature=0.0), voice(seed=1), voice(seed=2, top_p=0.8), voice(seed=3, top_k=5, logprobs=1),
        voice(temperature=0.0, output=(1, 2), frequency_penalty=2.0), voice(seed=4, min_p=0.1, min_tokens=9),
    ]  # fmt: skip
    together = Sampler(SIZE, ENDS).draw(rows.copy(), voices, [5] * 6)
    assert together == [draw(row, one, 5) for row, one in zip(rows, voices, strict=True)]


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 100_000), st.floats(0.01, 5))
def test_a_draw_is_a_function_of_logits_seed_and_position(seed: int, position: int, temperature: float):
    row = logits(1)
    drawn = [draw(row, voice(seed=seed, temperature=temperature), position) for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert 0 <= drawn[0].token < SIZE


def test_draws_follow_the_distribution():
    row = np.full(SIZE, -50, np.float32)
    row[[7, 300, 599]] = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    found = shares(row)
    assert set(found) == {7, 300, 599}
    assert found == pytest.approx({7: 0.5, 300: 0.3, 599: 0.2}, abs=0.03)


def test_temperature_sharpens_and_flattens():
    row = np.full(SIZE, -50, np.float32)
    row[[7, 8]] = np.log(np.array([0.8, 0.2], np.float32))
    assert shares(row, temperature=0.5)[7] == pytest.approx(0.64 / 0.68, abs=0.03)
    assert shares(row, temperature=1e-30) == {7: 1.0}


def test_top_k_keeps_the_k_likeliest():
    row = logits(2)
    best = np.argsort(-row)[:3]
    assert set(shares(row, top_k=3, temperature=2.0)) == set(best.tolist())


def test_top_p_keeps_the_smallest_set_that_reaches_p():
    row = np.full(SIZE, -50, np.float32)
    row[[7, 8, 9, 10]] = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    assert set(shares(row, top_p=0.79)) == {7, 8}
    assert set(shares(row, top_p=0.81)) == {7, 8, 9}
    assert set(shares(row, top_p=0.0)) == {7}


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.99])
def test_top_p_agrees_with_sorting_everything(top_p: float):
    row = logits(3)
    p = np.exp(row.astype(np.float64) - row.max())
    order = np.argsort(-row, kind="stable")
    cumulative = np.cumsum(p[order]) / p.sum()
    nucleus = set(order[: int(np.searchsorted(cumulative, top_p)) + 1].tolist())
    assert set(shares(row, n=1500, top_p=top_p)) <= nucleus
    assert int(order[0]) in nucleus


def test_min_p_keeps_what_is_likely_enough_beside_the_likeliest():
    row = np.full(SIZE, -50, np.float32)
    row[[7, 8, 9]] = np.log(np.array([0.6, 0.31, 0.09], np.float32))
    assert set(shares(row, min_p=0.5)) == {7, 8}
    assert set(shares(row, min_p=0.5, top_k=1)) == {7}


def test_presence_and_frequency_count_the_answer_alone():
    row = np.zeros(SIZE, np.float32)
    row[[10, 11]] = 5, 4
    assert draw(row, voice(temperature=0.0, prompt=(10, 10), frequency_penalty=2.0)).token == 10
    assert draw(row, voice(temperature=0.0, output=(10,), presence_penalty=1.5)).token == 11
    assert draw(row, voice(temperature=0.0, output=(10,), frequency_penalty=0.9)).token == 10
    assert draw(row, voice(temperature=0.0, output=(10, 10), frequency_penalty=0.9)).token == 11


def test_repetition_counts_the_prompt_too_and_pushes_down_on_both_sides_of_zero():
    row = np.full(SIZE, -9, np.float32)
    row[[10, 11]] = 5, 4
    assert draw(row, voice(temperature=0.0, prompt=(10,), repetition_penalty=1.5)).token == 11
    row[[10, 11]] = -1, -1.2
    assert draw(row, voice(temperature=0.0, prompt=(10,), repetition_penalty=1.5)).token == 11


def test_penalties_grow_with_what_is_said():
    row = np.zeros(SIZE, np.float32)
    row[[10, 11]] = 5, 4
    speaker = voice(temperature=0.0, presence_penalty=2.0)
    assert draw(row, speaker).token == 10
    speaker.said(10)
    assert draw(row, speaker).token == 11


def test_a_voice_that_starts_with_an_output_is_one_that_has_said_it():
    row = logits(4)
    grown = voice(seed=1, presence_penalty=1.0, repetition_penalty=1.3)
    for token in (9, 9, 20):
        grown.said(token)
    started = voice(seed=1, output=(9, 9, 20), presence_penalty=1.0, repetition_penalty=1.3)
    assert [draw(row, grown, i) for i in range(20)] == [draw(row, started, i) for i in range(20)]


def test_bias_moves_a_token_up_or_away():
    row = logits(5)
    best = int(row.argmax())
    assert draw(row, voice(temperature=0.0, logit_bias=((42, 100.0),))).token == 42
    assert draw(row, voice(temperature=0.0, logit_bias=((best, -100.0),))).token != best


def test_the_end_is_banned_before_min_tokens_and_under_ignore_eos():
    row = logits(6)
    row[3] = 99
    assert draw(row, voice(temperature=0.0, min_tokens=4), 3).token != 3
    assert draw(row, voice(temperature=0.0, min_tokens=4), 4).token == 3
    assert draw(row, voice(temperature=0.0, ignore_eos=True), 400).token not in ENDS


def test_log_probabilities_are_the_models_own():
    row = logits(7)
    expected = row.astype(np.float64) - row.max()
    expected -= math.log(np.exp(expected).sum())
    drawn = draw(row, voice(seed=3, temperature=2.0, top_k=3, logprobs=4, logit_bias=((50, 100.0),)))
    assert drawn.token == 50
    assert drawn.logprobs is not None
    assert drawn.logprobs.chosen == pytest.approx(expected[50], abs=1e-4)
    assert [i for i, _ in drawn.logprobs.alternatives] == np.argsort(-row)[:4].tolist()
    assert [p for _, p in drawn.logprobs.alternatives] == pytest.approx(np.sort(-expected)[:4] * -1, abs=1e-4)
    assert draw(row, voice(logprobs=0)).logprobs is not None


@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {}, {"top_p": 0.5}, {"temperature": 0.0, "logprobs": 1}])
def test_nothing_is_drawn_from_what_is_no_number(sampling: dict[str, Any]):
    row = logits(8)
    row[100] = np.nan
    assert draw(row, voice(**sampling)) == Draw(-1)
