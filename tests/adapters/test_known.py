"""Sign-ins that have ended, as a gateway remembers them: bounded, and never so that a session goes on that should not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cordee.adapters.known import Known
from cordee.policy.session import SignIn
from cordee.wire import credentials
from cordee.wire.credentials import Ended, Page, Principal

KEPT_S, TOKEN_S, BOUND = 1000.0, 60.0, 10
USER = Principal("user", "tenant", ["chats.read", "inference"], "m")
EVERYTHING = frozenset({"inference", "admin"})
Told = tuple[float, list[int]]


def page(revision: int, *ended: Ended, kept_s: float = KEPT_S) -> Page:
    principals = [USER] if revision == 1 else []
    return Page("e", revision - 1, revision, "i", "a", principals=principals, ended=list(ended), ended_kept_s=kept_s)


def restarted(known: Known, now: float) -> Known:
    again = Known(BOUND)
    again.take(credentials.decode(credentials.encode(known.whole())), now)
    return again


def test_what_was_too_much_is_forgotten_when_the_next_word_comes_whatever_it_says() -> None:
    known = Known(BOUND)
    known.take(page(1), 1000.0)
    known.take(page(2, *(Ended(str(one), 1000.0 + TOKEN_S) for one in range(BOUND + 1))), 1000.0)
    known.take(page(3), 1000.0 + TOKEN_S)
    assert len(known._ended) <= BOUND


@given(st.lists(st.tuples(st.floats(0, 300), st.lists(st.integers(0, 40), max_size=8)), max_size=12), st.data())
def test_no_session_of_a_sign_in_that_has_ended_ever_counts_and_what_is_remembered_is_bounded(
    told: list[Told], data: st.DataObject
) -> None:
    known, now, over = Known(BOUND), 1000.0, dict[int, float]()
    known.take(page(1), now)
    for number, (pause_s, families) in enumerate(told):
        now += pause_s
        over |= {family: over.get(family, now) for family in families}
        known.take(page(number + 2, *(Ended(str(one), over[one] + TOKEN_S) for one in families)), now)
        if data.draw(st.booleans()):
            known = restarted(known, now)
        young = sum(at + TOKEN_S > now for at in over.values())
        assert len(known._ended) <= BOUND + young
        for family, at in over.items():
            for began_s in (at - 500, at - 1, at, at + TOKEN_S - 1):  # with its last token, before it was told
                until_s = began_s + KEPT_S
                if now < until_s:
                    assert known.of_sign_in("user", SignIn(str(family), EVERYTHING, until_s), began_s, now) is None


def test_within_the_bound_only_what_has_ended_ends():
    known = Known(BOUND)
    known.take(page(1), 1000.0)
    known.take(page(2, *(Ended(str(one), 1000.0) for one in range(BOUND))), 1000.0)
    found = known.of_sign_in("user", SignIn("other", EVERYTHING, 2000.0), 900.0, 1000.0)
    assert found is not None
    caller, mark = found
    assert (caller.scopes, caller.grant, mark) == (frozenset({"inference"}), "other", "m")


def test_beyond_it_the_oldest_sessions_end_and_new_ones_begin():
    known = Known(BOUND)
    known.take(page(1), 1000.0)
    known.take(page(2, *(Ended(str(one), 900.0 + one) for one in range(BOUND + 1))), 1000.0)
    assert len(known._ended) == BOUND * 9 // 10
    of = SignIn("other", EVERYTHING, 5000.0)
    assert known.of_sign_in("user", of, 901.0, 1000.0) is None
    assert known.of_sign_in("user", of, 902.0, 1000.0) is not None
    assert restarted(known, 1000.0).of_sign_in("user", of, 901.0, 1000.0) is None
    assert known.anew().knows_since(901.0) is None


def test_accounts_that_tell_for_less_long_end_all_sessions_that_began_before():
    known = Known(BOUND)
    known.take(page(1), 1000.0)
    of = SignIn("one", EVERYTHING, 2000.0)
    assert known.of_sign_in("user", of, 999.0, 1000.0) is not None
    known.take(page(2, kept_s=KEPT_S / 2), 1000.0)
    known.take(page(3), 1000.0)
    assert known.of_sign_in("user", of, 999.0, 1000.0) is None
    assert known.of_sign_in("user", of, 1001.0, 1001.0) is not None


@given(*[st.frozensets(st.sampled_from(["admin", "chats.read", "files.read", "inference"])) for _ in range(2)])
def test_scopes_are_never_wider_than_those_of_the_session_nor_those_of_the_user(
    mine: frozenset[str], users: frozenset[str]
) -> None:
    known = Known(BOUND)
    known.take(page(1), 1000.0)
    changed = Principal("user", "tenant", sorted(users), "m")
    known.take(Page("e", 1, 2, "i", "a", principals=[changed], ended_kept_s=KEPT_S), 1000.0)
    found = known.of_sign_in("user", SignIn("one", mine, 2000.0), 1000.0, 1000.0)
    assert found is not None
    assert found[0].scopes == mine & users
