from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from cordee.domain.outcome import End, Outcome, Why
from cordee.gateway.kept.ring import KINDS_MAX, Ring

SECONDS = st.floats(0, 1e6, allow_nan=False)
COUNTS = st.integers(0, 1 << 40)
TEXTS = st.sampled_from(["", "a", "b"])
OUTCOMES = st.builds(
    Outcome, st.sampled_from(["1", "2", "3"]), st.sampled_from(End), TEXTS, TEXTS, st.none() | st.sampled_from(Why), TEXTS,
    st.integers(0, 9), st.integers(0, 9), st.booleans(), COUNTS, COUNTS, SECONDS, st.none() | SECONDS, SECONDS, TEXTS, TEXTS,
    TEXTS, st.lists(TEXTS, max_size=2).map(tuple), TEXTS, st.booleans(), st.booleans(), SECONDS, COUNTS,
)  # fmt: skip


@given(st.integers(0, 5), st.lists(st.tuples(SECONDS, OUTCOMES), max_size=20))
def test_the_last_ones_are_found_as_they_were_and_in_order(calls_max: int, entries: list[tuple[float, Outcome]]):
    ring = Ring(calls_max)
    last: deque[tuple[float, Outcome]] = deque(maxlen=calls_max)
    for ended, outcome in entries:
        ring.add(ended, outcome)
        last.append((ended, outcome))
    for id in ("1", "2", "3", "unknown"):
        assert ring.find(id) == [entry for entry in last if entry[1].call_id == id]


def test_kinds_of_calls_without_end_are_not_all_remembered():
    ring = Ring(2)
    for n in range(3 * KINDS_MAX):
        ring.add(0.0, Outcome(f"{n}", End.SERVED, "m", f"tenant {n}"))
    assert len(ring._known) <= KINDS_MAX
    assert ring.find(f"{3 * KINDS_MAX - 1}")[0][1].tenant == f"tenant {3 * KINDS_MAX - 1}"
