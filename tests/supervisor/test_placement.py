"""Placement: round robin, workers apart, spare cores to workers."""

from hypothesis import given
from hypothesis import strategies as st

from cordee.supervisor.placement import place


def test_six_processes_lie_over_two_cores_round_robin() -> None:
    processors = place([True, True, False, False, False, False], [0, 1])
    assert [sorted(one.cores) for one in processors] == [[0], [1], [0], [1], [0], [1]]
    assert [str(one) for one in processors][:3] == ["P1 → core 0", "P2 → core 1", "P3 → core 0"]
    assert all(one.shared for one in processors)


def test_spare_cores_go_to_the_workers() -> None:
    processors = place([True, True, False], [0, 1, 2, 3, 4, 5, 8])
    assert [sorted(one.cores) for one in processors] == [[0, 3, 5], [1, 4, 8], [2]]
    assert str(processors[1]) == "P2 → cores 1,4,8"
    assert not any(one.shared for one in processors)


def test_neighbouring_cores_are_written_as_a_range() -> None:
    assert str(place([True], [3, 2, 1, 7])[0]) == "P1 → cores 1–3,7"


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.sets(st.integers(0, 200), min_size=1, max_size=64))
def test_every_process_has_a_core_that_exists_and_no_core_is_left_to_nobody(
    hungry: list[bool], cores: set[int]
) -> None:
    processors = place(hungry, sorted(cores))
    assert [one.number for one in processors] == list(range(1, len(hungry) + 1))
    assert all(one.cores and one.cores <= cores for one in processors)
    used = [core for one in processors for core in one.cores]
    if len(hungry) <= len(cores):
        assert len(used) == len(set(used))  # nobody shares while there is room
    if any(hungry) or len(hungry) >= len(cores):
        assert set(used) == cores
