"""Which of a few equal processes is asked: in turns, and never one that is known to be away while another is there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.living import Living


def test_all_that_live_are_asked_in_turns():
    living = Living(3, 1.0)
    assert [living.ask(0.0) for _ in range(6)] == [0, 1, 2, 0, 1, 2]


def test_one_that_was_not_reached_is_left_alone_for_a_moment():
    living = Living(2, 1.0)
    living.note_away(10.0, 0)
    assert [living.ask(10.5) for _ in range(3)] == [1, 1, 1]
    assert 0 in [living.ask(11.0) for _ in range(2)]


def test_one_that_is_silent_is_left_alone_until_it_speaks():
    living = Living(1, 1.0)
    living.note_silent(0)
    assert living.ask(1e9) is None
    living.note_heard(0)
    assert living.ask(1e9) == 0


def test_what_was_tried_is_not_asked_again():
    living = Living(2, 1.0)
    assert living.ask(0.0, (0, 1)) is None
    assert living.ask(0.0, (0,)) == 1


@given(st.lists(st.tuples(st.sampled_from(["away", "silent", "heard", "ask"]), st.integers(0, 3), st.floats(0, 2))))
def test_who_is_asked_lives_and_somebody_is_as_long_as_anybody_lives(steps):
    living, now = Living(4, 1.0), 0.0
    for what, index, passes_s in steps:
        now += passes_s
        match what:
            case "away":
                living.note_away(now, index)
            case "silent":
                living.note_silent(index)
            case "heard":
                living.note_heard(index)
            case _:
                pass  # time only passes
        alive = [one for one in range(4) if living.is_living(now, one)]
        found = living.ask(now)
        assert found in alive if alive else found is None
