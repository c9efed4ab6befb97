"""How fast seats come back is measured right when they come back in rounds, and overload is told from chance."""

from __future__ import annotations

import pytest

from cordee.policy.drain import Demand, Drain

SLOTS, ANSWER_S, TOKENS = 16, 0.8, 25
RATE = SLOTS * TOKENS / ANSWER_S  # tokens a second


def in_rounds(rounds: int = 12) -> tuple[Drain, float]:
    """Calls that began together and are equally long: all seats come back at once, then none for a while."""
    drain, now = Drain(), 0.0
    drain.begins(now)
    for _ in range(rounds):
        now += ANSWER_S
        for _ in range(SLOTS):
            drain.note(now, TOKENS)
    return drain, now


def test_nothing_is_said_before_anything_was_measured():
    assert Drain().seconds(100.0, 1000) == 0.0


@pytest.mark.parametrize("into_the_round", [0.0, 0.1, 0.5, 0.99])
def test_the_silence_between_two_rounds_is_no_standstill(into_the_round):
    drain, now = in_rounds()
    one = drain.seconds(now + into_the_round * ANSWER_S, TOKENS)
    assert one == pytest.approx(TOKENS / RATE, rel=0.1)
    assert drain.seconds(now, 100 * TOKENS) == pytest.approx(100 * TOKENS / RATE, rel=0.1)


def test_a_standstill_lasts_at_least_as_long_as_it_has_lasted():
    drain, now = in_rounds()
    assert drain.seconds(now + 30.0, TOKENS) >= 29.0
    assert drain.seconds(now + 30.0, 1000 * TOKENS) > 3 * drain.seconds(now, 1000 * TOKENS)


def test_when_half_of_the_replicas_go_it_is_known_after_a_few_seconds():
    drain, now = in_rounds()
    for _ in range(200):
        now += 2 * ANSWER_S / SLOTS
        drain.note(now, TOKENS)
    assert drain.seconds(now, TOKENS) == pytest.approx(2 * TOKENS / RATE, rel=0.1)


def test_a_few_calls_while_long_answers_are_written_are_no_overload():
    demand = Demand()
    for now in (0.0, 1.0, 2.5, 4.0):
        demand.asked(now, 1.0)
    assert not demand.is_too_much


def test_twice_as_many_as_are_given_back_are_too_much_after_two_windows():
    demand, found = Demand(), []
    for number in range(100):
        demand.asked(number * 0.025, 1.0)
        demand.given += number % 2
        found.append(demand.is_too_much)
    assert found[-1]
    assert not any(found[:80])
