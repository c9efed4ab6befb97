"""A client's position in an answer that comes in from its beginning."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.flow.rejoin import Rejoin, Rejoined
from cordee.wire.position import ENDED, OPEN, RESTED, START, Position, rolled, together


def hash_of(tokens: list[int]) -> int:
    hash = START
    for token in tokens:
        hash = rolled(hash, token)
    return hash


def way_of(tokens: list[list[int]], states: tuple[str, ...]) -> Rejoin:
    counts = tuple(map(len, tokens))
    return Rejoin(Position(counts, states, False, together([hash_of(one) for one in tokens])))


def feed(way: Rejoin, tokens: list[int], *, is_over: bool = False) -> list[Rejoined]:
    """One choice, token by token; then its end."""
    verdicts = []
    for count in range(1, len(tokens) + 1):
        if way.is_old(0, count):
            way.passed(0, hash_of(tokens[:count]))
        verdicts.append(way.look([count], [False]))
        if verdicts[-1] is not Rejoined.UNDERWAY:
            return verdicts
    return [*verdicts, way.look([len(tokens)], [True])] if is_over else verdicts


@given(st.lists(st.integers(0, 1 << 16), min_size=1, max_size=20), st.lists(st.integers(0, 1 << 16), max_size=5))
def test_the_same_tokens_reach_the_position_exactly_where_the_client_is(had: list[int], more: list[int]) -> None:
    assert feed(way_of([had], (OPEN,)), had + more) == [Rejoined.UNDERWAY] * (len(had) - 1) + [Rejoined.REACHED]


@given(st.lists(st.integers(0, 1 << 16), min_size=1, max_size=20), st.integers(0, 19), st.integers(1, 1 << 16))
def test_one_other_token_makes_it_another_answer(had: list[int], at: int, by: int) -> None:
    other = list(had)
    other[at % len(had)] ^= by
    assert feed(way_of([had], (OPEN,)), other)[-1] is Rejoined.ANOTHER


def test_a_shorter_answer_is_another_one() -> None:
    assert feed(way_of([[1, 2, 3]], (OPEN,)), [1, 2], is_over=True)[-1] is Rejoined.ANOTHER


@pytest.mark.parametrize("state", [RESTED, ENDED])
def test_an_end_that_the_client_saw_must_be_the_end_here_too(state: str) -> None:
    assert feed(way_of([[1, 2]], (state,)), [1, 2], is_over=True)[-2:] == [Rejoined.UNDERWAY, Rejoined.REACHED]
    assert feed(way_of([[1, 2]], (state,)), [1, 2, 3])[-1] is Rejoined.ANOTHER
