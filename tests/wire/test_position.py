"""Where a stream stands: written into an event's id and read back, and nothing else is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.wire.position import ENDED, OPEN, RESTED, START, Position, read, rolled, together, written

STREAM = "00112233445566778899aabb"
COUNTS = st.lists(st.integers(0, 99_999_999), min_size=1, max_size=128)
HASHES = st.integers(0, 2**64 - 1)


@given(COUNTS, st.booleans(), st.data())
def test_what_is_written_is_read_back(counts: list[int], has_usage: bool, data: st.DataObject) -> None:
    states = [data.draw(st.sampled_from([OPEN, RESTED, ENDED])) for _ in counts]
    hashes = [data.draw(HASHES) for _ in counts]
    stream, position = read(f"{STREAM}.{written(counts, states, hashes, has_usage=has_usage)}")
    assert stream == STREAM
    assert position == Position(tuple(counts), tuple(states), has_usage, together(hashes))


def test_one_choice_and_several_are_written_as_documented() -> None:
    assert written([12], [OPEN], [255]) == "12.00000000000000ff"
    assert written([12], [ENDED], [255], has_usage=True) == "12eu.00000000000000ff"
    assert written([12, 10, 11], [OPEN, ENDED, RESTED], [1, 2, 3]).startswith("12-10e-11r.")


@pytest.mark.parametrize(
    "text",
    [
        "", "0", STREAM, f"{STREAM}.1", f"{STREAM}.1.00", f"{STREAM}.-1.{0:016x}", f"{STREAM}.1x.{0:016x}",
        f"{STREAM}.1.{0:016x}\n", f"{STREAM}.1.{0:017x}", f"{STREAM}.t.{0:016x}", f"{STREAM}.999999999.{0:016x}",
        f"{STREAM}.1-.{0:016x}", f"../{STREAM}.1.{0:016x}", f"{STREAM}.1.{0:016X}".replace("0" * 16, "A" * 16),
        f"{STREAM}.{'1-' * 128}1.{0:016x}", "9" * 5000,
    ],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not the id of an event"):
        read(text)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=50), st.data())
def test_one_token_changed_changes_the_hash(tokens: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(tokens) - 1))
    other = data.draw(st.integers(0, 2**32 - 1).filter(lambda token: token != tokens[at]))
    changed = [*tokens[:at], other, *tokens[at + 1 :]]

    def hashed(ids: list[int]) -> int:
        hash = START
        for id in ids:
            hash = rolled(hash, id)
        return hash

    assert hashed(tokens) != hashed(changed)
