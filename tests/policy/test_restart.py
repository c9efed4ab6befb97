"""Restart: the wait doubles with the deaths in the window, is bounded, and ends in giving up."""

from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.restart import Died, GiveUp, Restart, Start


def restart(**changed: float) -> Restart:
    settings = {"backoff_s": 0.1, "backoff_s_max": 1.0, "deaths_max": 6, "window_s": 60.0} | changed
    return Restart(settings["backoff_s"], settings["backoff_s_max"], int(settings["deaths_max"]), settings["window_s"])


def test_without_a_death_it_starts_now() -> None:
    assert restart().ask(5.0) == Start(5.0)


def test_the_wait_doubles_up_to_its_bound_and_then_it_is_given_up() -> None:
    policy, now, waits = restart(), 100.0, []
    for _ in range(5):
        policy.note(now, Died())
        decision = policy.ask(now)
        assert isinstance(decision, Start)
        waits.append(round(decision.at_s - now, 6))
        now = decision.at_s
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.0]
    policy.note(now, Died())
    assert policy.ask(now) == GiveUp(6)


def test_deaths_outside_the_window_are_forgotten() -> None:
    policy = restart()
    for now in range(0, 10_000, 61):
        policy.note(float(now), Died())
        assert policy.ask(float(now)) == Start(now + 0.1)


def test_asking_late_starts_now() -> None:
    policy = restart()
    policy.note(1.0, Died())
    assert policy.ask(30.0) == Start(30.0)


@given(st.lists(st.floats(0, 30), max_size=40), st.integers(1, 10))
def test_a_start_is_never_in_the_past_nor_beyond_the_longest_wait(gaps: list[float], deaths_max: int) -> None:
    policy, now, times = restart(deaths_max=deaths_max), 0.0, []
    for gap in gaps:
        now += gap
        times.append(now)
        policy.note(now, Died())
        recent = sum(now - time <= 60.0 for time in times)
        match policy.ask(now):
            case Start(at_s):
                assert now <= at_s <= now + 1.0 + 1e-9
                assert recent < deaths_max
            case GiveUp(deaths):
                assert deaths == deaths_max <= recent
