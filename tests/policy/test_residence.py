"""Who stays in memory."""

from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.residence import Resident, is_idle, who_goes

residents = st.lists(
    st.builds(
        Resident, st.uuids().map(str), st.integers(0, 1000), st.floats(0, 1e6), st.booleans()
    ),
    max_size=8,
)  # fmt: skip


def test_nobody_goes_while_there_is_room():
    assert who_goes(100, 100, [Resident("a", 50, 0.0, False)]) == ()


def test_the_least_recently_used_goes_first_and_no_more_than_are_needed():
    shelf = [Resident("new", 50, 9.0, False), Resident("old", 50, 1.0, False), Resident("held", 50, 0.0, True)]
    assert who_goes(100, 60, shelf) == ("old",)
    assert who_goes(150, 60, shelf) == ("old", "new")
    assert who_goes(170, 60, shelf) is None


@given(st.integers(0, 5000), st.integers(-1000, 5000), residents)
def test_nobody_who_is_held_goes_and_what_goes_is_enough(need, room, shelf):
    going = who_goes(need, room, shelf)
    by_name = {one.name: one for one in shelf}
    if going is None:
        assert room + sum(one.bytes for one in shelf if not one.is_held) < need
    else:
        assert not any(by_name[name].is_held for name in going)
        assert room + sum(by_name[name].bytes for name in going) >= need
        assert room + sum(by_name[name].bytes for name in going[:-1]) < need or not going


def test_idle_is_who_nobody_holds_and_nobody_asked_for_long_enough():
    assert is_idle(10.0, 5.0, 5.0, is_held=False)
    assert not is_idle(10.0, 5.1, 5.0, is_held=False)
    assert not is_idle(10.0, 5.0, 5.0, is_held=True)
