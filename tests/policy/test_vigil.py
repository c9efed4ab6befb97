from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.vigil import Trust, Vigil, VigilRules

RULES = VigilRules(canary_s=10.0, answer_s=5.0)


def test_a_server_that_computes_is_never_asked():
    vigil = Vigil(RULES, 0.0)
    for second in range(100):
        vigil.figures(float(second), steps=second)
        assert not vigil.should_ask(float(second))
        assert vigil.trust(float(second)) is Trust.USED


def test_an_idle_server_is_asked_and_used_as_long_as_it_answers():
    vigil = Vigil(RULES, 0.0)
    for second in range(1, 100):
        vigil.figures(float(second), steps=0)
        if vigil.should_ask(float(second)):
            vigil.answered(float(second))
        assert vigil.trust(float(second)) is Trust.USED


def test_a_server_that_tells_figures_and_computes_nothing_is_spared_and_then_lost():
    vigil = Vigil(RULES, 0.0)
    seen = []
    for second in range(25):
        vigil.figures(float(second), steps=0)
        seen.append(vigil.trust(float(second)))
    assert [seen.index(trust) for trust in Trust] == [0, 15, 20]
    vigil.answered(24.0)
    assert vigil.trust(24.0) is Trust.USED


def test_a_server_without_figures_is_spared_although_it_answers():
    vigil = Vigil(RULES, 0.0)
    vigil.answered(5.0)
    assert vigil.trust(5.0) is Trust.SPARED


def test_with_canaries_off_only_its_figures_count():
    vigil = Vigil(VigilRules(0.0, 5.0), 0.0)
    vigil.figures(1000.0, steps=0)
    assert not vigil.should_ask(1000.0)
    assert vigil.trust(1000.0) is Trust.USED


@given(st.lists(st.tuples(st.floats(0, 4.9), st.integers(0, 3)), min_size=1, max_size=50))
def test_whoever_makes_progress_and_is_heard_in_time_is_used(steps):
    vigil, now, total = Vigil(RULES, 0.0), 0.0, 0
    for pause, more in steps:
        now += pause
        total += more + 1
        vigil.figures(now, total)
        assert vigil.trust(now) is Trust.USED
