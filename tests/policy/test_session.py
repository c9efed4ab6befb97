"""What a browser's session is worth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.policy.session import Ended, Session, SessionRules, SignIn, Standing, expires_s, is_own, standing

RULES = SessionRules(lifetime_s=100.0, absolute_s=250.0, ended_per_key_max=3)
HOST = b"example.org:8443"


def session(id: str = "a", key_id: str = "k", began_s: float = 1000.0, issued_s: float | None = None) -> Session:
    return Session(id, key_id, "mark", began_s, began_s if issued_s is None else issued_s)


@pytest.mark.parametrize(
    ("began_s", "issued_s", "now", "expected"),
    [
        (1000.0, 1000.0, 1000.0, Standing.HOLDS),
        (1000.0, 1000.0, 1050.0, Standing.HOLDS),
        (1000.0, 1000.0, 1051.0, Standing.RENEW),
        (1000.0, 1000.0, 1099.9, Standing.RENEW),
        (1000.0, 1000.0, 1100.0, Standing.OVER),
        (1000.0, 1200.0, 1249.0, Standing.HOLDS),
        (1000.0, 1200.0, 1250.0, Standing.OVER),  # the login is too long ago, however often it was renewed
        (1000.0, 1000.0, 941.0, Standing.HOLDS),  # the clock of another host
        (1000.0, 1000.0, 939.0, Standing.OVER),  # from the future
    ],
)
def test_a_session_holds_is_renewed_and_ends(began_s: float, issued_s: float, now: float, expected: Standing) -> None:
    assert standing(session(began_s=began_s, issued_s=issued_s), now, RULES) is expected


@pytest.mark.parametrize(
    ("site", "origin", "has_token", "own"),
    [
        (None, None, False, False),
        (None, None, True, True),
        (b"same-origin", None, False, True),
        (b"none", None, False, True),
        (b"same-site", None, False, False),
        (b"cross-site", b"https://example.org:8443", False, False),  # the browser knows better than the page
        (b"cross-site", None, True, True),
        (None, b"https://example.org:8443", False, True),
        (None, b"http://EXAMPLE.org:8443", False, True),
        (None, b"https://example.org", False, False),
        (None, b"https://example.org:8443.evil.net", False, False),
        (None, b"null", False, False),
        (None, b"", False, False),
        (None, b"ftp://example.org:8443", False, False),
    ],
)
def test_a_changing_request_must_come_from_our_own_page(
    site: bytes | None, origin: bytes | None, has_token: bool, own: bool
) -> None:
    assert is_own(HOST, site, origin, has_token=has_token) is own


def test_no_origin_equals_a_missing_host() -> None:
    assert not is_own(b"", None, b"https://", has_token=False)


def test_an_end_counts_for_that_session_alone() -> None:
    ended = Ended()
    ended.end(session("a"), 1010.0, RULES)
    assert ended.has(session("a"))
    assert not ended.has(session("b"))
    assert not ended.has(session("a", key_id="other"))


def test_too_many_ends_of_one_key_end_all_its_sessions_and_no_others() -> None:
    ended = Ended()
    for n in range(4):
        ended.end(session(str(n)), 1010.0 + n, RULES)
    assert ended.has(session("never ended", began_s=1012.9))
    assert not ended.has(session("newer", began_s=1013.0))
    assert not ended.has(session("never ended", key_id="other", began_s=1012.9))
    assert all(ended.has(session(str(n))) for n in range(4))


def test_a_persons_session_ends_when_nobody_would_know_of_the_end_of_its_sign_in() -> None:
    mine = Session("a", "user", "mark", 1000.0, 1200.0, SignIn("family", frozenset(), 1230.0))
    assert expires_s(mine, RULES) == 1230.0
    assert standing(mine, 1230.0, RULES) is Standing.OVER
    assert expires_s(Session("a", "user", "mark", 1000.0, 1000.0, SignIn("family", frozenset(), 1e9)), RULES) == 1100.0


@given(st.lists(st.tuples(st.sampled_from("kl"), st.integers(0, 9), st.floats(1000, 2000)), max_size=60))
def test_what_was_ended_never_comes_back_before_it_expires_and_the_list_is_bounded(
    ends: list[tuple[str, int, float]],
) -> None:
    ended, over, now = Ended(), [], 0.0
    for key_id, id, at in sorted(ends, key=lambda one: one[2]):
        now = at
        one = session(str(id), key_id, began_s=at - 1)
        ended.end(one, now, RULES)
        over.append(one)
        ended.forget_expired(now, RULES)
        ended = Ended.read(ended.written())
        assert all(ended.has(gone) for gone in over if expires_s(gone, RULES) > now)
        assert all(len(ids) <= RULES.ended_per_key_max for _, ids in ended.written().values())


def test_a_key_whose_sessions_have_all_expired_is_forgotten() -> None:
    ended = Ended()
    for n in range(4):
        ended.end(session(str(n)), 1010.0, RULES)
    ended.forget_expired(1010.0 + RULES.absolute_s + 61.0, RULES)
    assert ended.written() == {}
