from __future__ import annotations

import pytest

from cordee.domain.outcome import Refusal, Why
from cordee.policy.after import Stop
from cordee.policy.fallback import Can, Cause, Fallbacks, Needs, Step, cause_of

EVERY = frozenset(Cause)
CHAINS = Fallbacks({"a": (Step("b", frozenset({Cause.OVERLOAD})), Step("c", EVERY)), "c": (Step("a", EVERY),)})
ALL = {"a": Can(), "b": Can(), "c": Can(tools=False, schema=False, context=100)}


@pytest.mark.parametrize(
    ("cause", "needs", "expected"),
    [
        (Cause.OVERLOAD, Needs(), "b"),
        (Cause.FAILURE, Needs(), "c"),
        (Cause.CONTEXT, Needs(tokens=100), "c"),
        (Cause.CONTEXT, Needs(tokens=101), None),
        (Cause.FAILURE, Needs(tools=True), None),
        (Cause.FAILURE, Needs(schema=True), None),
        (Cause.OVERLOAD, Needs(tools=True), "b"),
    ],
)
def test_the_next_model_is_named_for_the_cause_and_can_do_what_is_needed(cause, needs, expected):
    assert CHAINS.next("a", {"a"}, cause, needs, ALL.get) == expected


def test_each_model_is_asked_once_and_only_if_somebody_serves_it():
    assert CHAINS.next("a", {"a", "b"}, Cause.OVERLOAD, Needs(), ALL.get) == "c"
    assert CHAINS.next("a", {"a", "b", "c"}, Cause.OVERLOAD, Needs(), ALL.get) is None
    assert CHAINS.next("a", {"a"}, Cause.OVERLOAD, Needs(), {"c": Can()}.get) == "c"
    assert CHAINS.next("b", {"b"}, Cause.OVERLOAD, Needs(), ALL.get) is None


@pytest.mark.parametrize("why", Why)
def test_what_is_the_callers_fault_has_no_cause(why):
    expected = {
        Why.QUEUE_FULL: Cause.OVERLOAD, Why.QUEUE_TIMEOUT: Cause.OVERLOAD, Why.NO_REPLICA: Cause.OVERLOAD,
    }.get(why)  # fmt: skip
    assert cause_of(Refusal(why, "no")) == expected
    failed = Cause.FAILURE if why in (Why.ATTEMPTS, Why.REPLICA) else None
    assert cause_of(Stop(why, "broke")) == failed
    assert cause_of(Stop(why, "broke", fault=True)) is None
