from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from cordee.config.sections.services import Webhooks
from cordee.services.webhooks.rules.schedule import Next, State, Tried, after, is_given_up

WAITS = Webhooks().retry_s
DAY_S = 86_400.0


def test_what_is_answered_with_a_success_is_delivered():
    for status in (200, 204, 299):
        assert after(Tried(status), 1, WAITS, 0.2, 0.5) == Next(State.DELIVERED)


def test_tries_are_spread_over_some_three_days():
    assert 3 * DAY_S < sum(WAITS) < 4 * DAY_S
    found = [after(Tried(500), tries, WAITS, 0.0, 0.5) for tries in range(1, len(WAITS) + 2)]
    assert [one.wait_s for one in found[:-1]] == list(WAITS)
    assert found[-1] == Next(State.FAILED)
    assert all(early <= late for early, late in itertools.pairwise(WAITS))


def test_a_server_that_wants_nothing_any_more_is_asked_no_more():
    assert after(Tried(410), 1, WAITS, 0.0, 0.5) == Next(State.FAILED)
    assert is_given_up(Tried(410), 1.0, 1.0, DAY_S)


def test_a_server_that_says_when_is_not_asked_before():
    assert after(Tried(503, retry_after_s=60), 1, WAITS, 0.0, 0.5) == Next(State.WAITING, 60)
    assert after(Tried(503, retry_after_s=1e9), 1, WAITS, 0.0, 0.5).wait_s == DAY_S


@given(st.integers(1, 20), st.floats(0, 1), st.sampled_from([0, 301, 400, 500]))
def test_chance_moves_a_wait_by_its_share_at_most(tries: int, chance: float, status: int):
    found = after(Tried(status), tries, WAITS, 0.2, chance)
    if found.state is State.WAITING:
        assert 0.8 * WAITS[tries - 1] - 1e-6 <= found.wait_s <= 1.2 * WAITS[tries - 1] + 1e-6
    else:
        assert tries > len(WAITS)


def test_an_endpoint_that_only_fails_is_given_up_after_days_and_not_before():
    assert not is_given_up(Tried(500), 0.0, 5 * DAY_S - 1, 5 * DAY_S)
    assert is_given_up(Tried(500), 0.0, 5 * DAY_S, 5 * DAY_S)
    assert not is_given_up(Tried(200), 0.0, 9 * DAY_S, 5 * DAY_S)
