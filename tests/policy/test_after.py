from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.domain.outcome import Why
from cordee.domain.replica import ReplicaKind
from cordee.policy.after import Again, AttemptRules, Ended, Stop, after

RULES = AttemptRules(attempts_max=3, continuations_max=8)
LINK, HTTP = ReplicaKind.LINK, ReplicaKind.HTTP
CRASH, REFUSED, BUSY = Ended("reset"), Ended("cannot connect", ran=False), Ended("busy", busy=True, ran=False)
FAULT = Ended("the prompt is too long", ran=False, fault=True)


def reasons(following: Again | Stop) -> Why | None:
    return following.why if isinstance(following, Stop) else None


@pytest.mark.parametrize(
    ("ended", "kind", "started", "attempts", "expected"),
    [
        (CRASH, LINK, False, 1, Again(elsewhere=True, charged=False)),
        (CRASH, LINK, True, 1, Again(elsewhere=True, charged=False)),
        (CRASH, LINK, True, 8, Again(elsewhere=True, charged=False)),
        (CRASH, LINK, True, 9, Why.ATTEMPTS),
        (CRASH, HTTP, False, 1, Again(elsewhere=True, charged=True)),
        (REFUSED, HTTP, False, 1, Again(elsewhere=True, charged=False)),
        (CRASH, HTTP, False, 2, Again(elsewhere=True, charged=True)),
        (CRASH, HTTP, False, 3, Why.ATTEMPTS),
        (REFUSED, HTTP, False, 3, Why.ATTEMPTS),
        (CRASH, HTTP, True, 1, Why.REPLICA),
        (BUSY, HTTP, False, 1, Again(elsewhere=True, charged=False)),
        (BUSY, HTTP, False, 2, Again(elsewhere=True, charged=False)),
        (BUSY, HTTP, False, 3, Again(elsewhere=False, charged=False)),
        (BUSY, LINK, True, 1, Again(elsewhere=True, charged=False)),
        (FAULT, LINK, False, 1, Why.UNFIT),
        (FAULT, HTTP, True, 1, Why.UNFIT),
    ],
)
def test_what_follows_an_attempt(ended, kind, started, attempts, expected):
    following = after(ended, kind, started=started, attempts=attempts, rules=RULES)
    assert (reasons(following) if isinstance(expected, Why) else following) == expected


ENDS = st.builds(Ended, st.just("cause"), busy=st.booleans(), ran=st.booleans(), fault=st.booleans())


@given(ENDS, st.sampled_from(ReplicaKind), st.booleans(), st.integers(1, 20))
def test_nothing_goes_on_elsewhere_after_bytes_of_a_server_that_cannot_be_continued(ended, kind, started, attempts):
    following = after(ended, kind, started=started, attempts=attempts, rules=RULES)
    if kind is HTTP and started and not ended.busy:
        assert isinstance(following, Stop)


@given(ENDS, st.sampled_from(ReplicaKind), st.booleans(), st.integers(1, 20))
def test_only_work_that_may_have_been_done_is_charged(ended, kind, started, attempts):
    following = after(ended, kind, started=started, attempts=attempts, rules=RULES)
    if isinstance(following, Again) and following.charged:
        assert ended.ran
        assert not ended.busy
        assert kind is not LINK


@given(ENDS, st.sampled_from(ReplicaKind), st.booleans())
def test_faults_in_a_row_come_to_an_end(ended, kind, started):
    attempts = max(RULES.attempts_max, RULES.continuations_max) + 1
    following = after(ended, kind, started=started, attempts=attempts, rules=RULES)
    assert isinstance(following, Stop) or ended.busy, "a call that nobody has taken waits until its deadline"


def test_a_failed_call_says_what_broke():
    following = after(CRASH, HTTP, started=False, attempts=3, rules=RULES)
    assert isinstance(following, Stop)
    assert "3 attempts" in following.message
    assert "reset" in following.message
