from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.prefix import BLOCK, Held, Prefixes, common_tokens, hashes_of


def view(ids: list[int]) -> memoryview:
    return memoryview(array("i", ids)).cast("B")


def held(slot: int, ids: list[int], computed: int | None = None, scope: str = "s") -> Held:
    tokens = view(ids)
    done = len(ids) if computed is None else computed
    return Held(slot, scope, tokens, len(ids), done, None, 0.0, hashes_of(scope, tokens, len(ids)))


def found(
    prefixes: Prefixes, ids: list[int], limit: int | None = None, scope: str = "s"
) -> tuple[tuple[int, int], ...]:
    tokens = view(ids)
    matches = prefixes.find(scope, tokens, hashes_of(scope, tokens, len(ids)), len(ids) if limit is None else limit)
    return tuple((match.held.slot, match.ready) if match is not None else (-1, 0) for match in matches)


def test_the_longest_beginning_is_found_to_the_token():
    prefixes = Prefixes(3)
    prefixes.put(held(0, list(range(100))))
    prefixes.put(held(1, [*range(70), 7, 7]))
    assert found(prefixes, [*range(90), 5, 5, 5])[1] == (0, 90)
    assert found(prefixes, list(range(100)), limit=99)[1] == (0, 99)


def test_less_than_a_block_is_not_worth_finding():
    prefixes = Prefixes(1)
    prefixes.put(held(0, list(range(100))))
    assert found(prefixes, [*range(BLOCK - 1), 500, 501]) == ((-1, 0), (-1, 0))


def test_what_is_promised_and_what_is_there_are_told_apart():
    prefixes = Prefixes(2)
    prefixes.put(held(0, list(range(200)), computed=10))
    prefixes.put(held(1, list(range(64))))
    longest, ready = found(prefixes, list(range(200)), limit=199)
    assert longest == (0, 10)
    assert ready == (1, 64)


def test_another_scope_shares_nothing():
    prefixes = Prefixes(1)
    prefixes.put(held(0, list(range(100))))
    assert found(prefixes, list(range(100)), scope="other") == ((-1, 0), (-1, 0))


def test_a_cleared_slot_is_found_no_more_and_a_moved_one_where_it_went():
    prefixes = Prefixes(3)
    prefixes.put(held(0, list(range(64))))
    prefixes.move(0, 2)
    assert found(prefixes, list(range(64)))[1] == (2, 64)
    prefixes.clear(2)
    assert found(prefixes, list(range(64))) == ((-1, 0), (-1, 0))


@given(st.lists(st.integers(0, 2), max_size=90), st.lists(st.integers(0, 2), max_size=90))
def test_common_tokens_are_those_of_a_plain_comparison(one: list[int], other: list[int]):
    limit = min(len(one), len(other))
    expected = next((i for i in range(limit) if one[i] != other[i]), limit)
    assert common_tokens(view(one), view(other), limit) == expected
