from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.hedge import BURST, SEEN_MIN, Hedge, HedgeRules

RULES = HedgeRules(enabled=True, quantile=0.95, share=0.02)


def learned(rules: HedgeRules = RULES, first_s: float = 0.1) -> Hedge:
    hedge = Hedge(rules)
    for _ in range(SEEN_MIN):
        hedge.note(first_s)
    return hedge


def test_nothing_is_late_before_enough_first_tokens_were_seen() -> None:
    hedge = Hedge(RULES)
    for _ in range(SEEN_MIN - 1):
        hedge.note(0.1)
    assert hedge.began() is None
    hedge.note(0.1)
    assert hedge.began() == 0.1


def test_late_is_what_the_bucket_can_pay_for() -> None:
    hedge = Hedge(RULES)
    for number in range(1024):
        hedge.note(number % 512 / 1000)
    late = hedge.began()
    assert late is not None
    assert sum(number / 1000 > late for number in range(512)) <= RULES.share * 512 + 1


@given(st.lists(st.booleans(), max_size=400))
def test_hedges_are_a_share_of_the_calls_and_a_small_burst(steps: list[bool]) -> None:
    hedge, calls = learned(), 0
    for is_call in steps:
        if is_call:
            hedge.began()
            calls += 1
        else:
            hedge.ask(utilisation=0.1)
        assert hedge.started <= BURST + RULES.share * calls


def test_a_well_used_pool_or_shed_load_is_not_hedged_for() -> None:
    hedge = learned()
    assert not hedge.ask(utilisation=0.71)
    hedge.is_held = True
    assert hedge.began() is None
    assert not hedge.ask(utilisation=0.0)
    hedge.is_held = False
    assert hedge.ask(utilisation=0.7)
