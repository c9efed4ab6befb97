from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.oracle import LENGTH_MAX, LENGTH_MIN, VOCABULARY, answer_length, ends_itself, length_for, token_at

SEEDS = st.integers(-(2**63), 2**63 - 1)


@given(SEEDS, st.integers(0, 10**9))
def test_a_token_is_a_function_of_seed_and_index(seed: int, index: int):
    assert 0 <= token_at(seed, index) < VOCABULARY
    assert token_at(seed, index) == token_at(seed, index)


@given(SEEDS)
def test_an_answer_has_a_length_of_its_own(seed: int):
    assert LENGTH_MIN <= length_for(seed) <= LENGTH_MAX
    assert answer_length(seed, LENGTH_MAX + 1) == length_for(seed)
    assert ends_itself(seed, LENGTH_MAX + 1)


@given(SEEDS, st.integers(0, 2000))
def test_max_tokens_cuts_and_ignore_eos_fills(seed: int, max_tokens: int):
    assert answer_length(seed, max_tokens) <= max_tokens
    assert answer_length(seed, max_tokens, ignore_eos=True) == max_tokens
    assert not ends_itself(seed, max_tokens, ignore_eos=True)
    assert ends_itself(seed, max_tokens) == (length_for(seed) < max_tokens)


def test_min_tokens_puts_the_end_off():
    assert answer_length(1, 2000, 1000) == 1000
    assert ends_itself(1, 2000, 1000)
