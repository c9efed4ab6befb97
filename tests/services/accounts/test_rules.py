from __future__ import annotations

import base64
import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.services.accounts.rules import grants, lockout, rights, rotation, words
from cordee.services.accounts.rules.rights import Role, Scope

ROLES = [Role.VIEWER, Role.USER, Role.DEVELOPER, Role.ADMIN, Role.OWNER]


def test_each_role_may_do_all_that_the_one_below_may():
    for lower, higher in itertools.pairwise(ROLES):
        assert rights.scopes_of(lower, False) < rights.scopes_of(higher, False)


def test_only_owners_and_admins_of_the_operating_tenant_may_touch_others():
    operating = {Scope.TENANTS_WRITE, Scope.TENANTS_READ, Scope.ADMIN}
    for role in ROLES:
        assert not rights.scopes_of(role, False) & operating
        assert bool(rights.scopes_of(role, True) & operating) == (role in (Role.OWNER, Role.ADMIN))


@given(st.sampled_from(ROLES), st.sampled_from([None, *ROLES]), st.sampled_from([None, *ROLES]))
def test_nobody_but_an_owner_touches_their_own_rank_or_a_higher_one(
    actor: Role, before: Role | None, after: Role | None
):
    highest = max((ROLES.index(role) for role in (before, after) if role), default=-1)
    assert rights.may_appoint(actor, before, after) == (actor is Role.OWNER or highest < ROLES.index(actor))


def test_facts_about_oneself_are_everybodys():
    assert rights.beyond(frozenset({"openid", "inference", "users.write"}), frozenset({"inference"})) == (
        "users.write",
    )


@given(st.integers(0, 10_000))
def test_the_wait_grows_and_never_beyond_its_limit(failures: int):
    now, next_one = (lockout.delay_s(n, 5, 1.0, 900.0) for n in (failures, failures + 1))
    assert 0 <= now <= next_one <= 900
    assert (now == 0) == (failures <= 5)


def test_failures_are_forgotten():
    assert lockout.remembered(7, 100.0, 200.0, 99.0) == 0
    assert lockout.remembered(7, 100.0, 200.0, 100.0) == 7


SIGNS, PUBLISHED, TOKEN = 1000.0, 60.0, 10.0


def _plan(now: float, *starts: float) -> rotation.Plan:
    keys = [rotation.Dates(f"k{start:g}", start) for start in starts]
    return rotation.plan(keys, now, SIGNS, PUBLISHED, TOKEN)


def test_the_first_key_signs_at_once():
    assert _plan(5.0) == rotation.Plan(None, 5.0, ())


def test_the_next_key_is_published_before_it_signs():
    assert _plan(939.0, 0.0) == rotation.Plan("k0", None, ())
    assert _plan(940.0, 0.0) == rotation.Plan("k0", 1000.0, ())
    assert _plan(999.0, 0.0, 1000.0).signer == "k0"
    assert _plan(1000.0, 0.0, 1000.0).signer == "k1000"


def test_an_old_key_stays_until_its_last_token_has_expired_everywhere():
    assert _plan(1070.0, 0.0, 1000.0).gone == ()
    assert _plan(1071.0, 0.0, 1000.0).gone == ("k0",)


@given(st.lists(st.floats(0, 10_000), max_size=6, unique=True), st.floats(0, 20_000))
def test_who_signs_never_goes(starts: list[float], now: float):
    found = _plan(now, *starts)
    assert found.signer not in found.gone
    assert (found.signer is None) == (not starts)


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/cb",
        "https://app.example:8443/cb?x=1",
        "http://127.0.0.1/cb",
        "http://127.0.0.1:7/cb",
        "http://[::1]:9/",
    ],
)
def test_these_redirects_can_be_registered(uri: str):
    assert grants.fault_of_redirect(uri) is None


@pytest.mark.parametrize(
    "uri",
    ["", "http://app.example/cb", "http://localhost/cb", "https://user@app.example/", "https://app.example/#x", "https://*.example/",
     "javascript:alert(1)", "https://app.example/a/../b", "https://a\\@b/", "https:///x", "https://a b/", "https://app.example:0/",
     "https://a.example;sandbox/", "https://a.example,b.example/", "https://a'b/",
     "https://app.example/\r\nx", "https://[::1/", "//app.example/", "https://a.example:99999/", "https://" + "a" * 600],
)  # fmt: skip
def test_these_redirects_cannot(uri: str):
    assert grants.fault_of_redirect(uri)


@pytest.mark.parametrize(
    ("asked", "is_meant"),
    [("https://a.example/cb", True), ("https://a.example/cb/", False), ("https://a.example/cbx", False), ("https://a.example/cb?x", False),
     ("https://a.example:443/cb", False), ("https://a.example.evil/cb", False), ("http://127.0.0.1:5123/cb", True),
     ("http://127.0.0.1:5123/other", False), ("http://127.0.0.1@evil/cb", False), ("http://[::1]:1/cb", False)],
)  # fmt: skip
def test_a_redirect_is_exactly_one_that_was_registered(asked: str, is_meant: bool):
    assert grants.is_redirect_of(asked, ("https://a.example/cb", "http://127.0.0.1/cb")) is is_meant


def test_the_proof_is_the_hash_of_the_verifier():
    verifier = "v" * 43
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    assert grants.is_proof(verifier, challenge)
    assert not grants.is_proof("w" * 43, challenge)
    assert not grants.is_proof(challenge, challenge)
    assert not grants.is_proof("v" * 42, challenge)


@given(st.tuples(*[st.integers(0, 19)] * 8))
def test_a_user_code_is_read_however_it_is_typed(numbers: tuple[int, ...]):
    code = grants.user_code(numbers)
    assert grants.read_user_code(code.lower().replace("-", " ")) == code
    assert grants.read_user_code(code.replace("-", "")) == code
    assert grants.read_user_code(code[:-1]) is None


@pytest.mark.parametrize(
    "typed",
    [
        "Ada@Example.com",
        " ada@example.com ",
        "a.b+c@sub.example.org",
        "é@example.com",
        "ада@example.com",
        "山田たろう@x.jp",
    ],
)
def test_these_are_addresses(typed: str):
    found = words.email_of(typed)
    assert found == typed.strip().lower()


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "ada",
        "@x.y",
        "a@",
        "a b@x.y",
        "a@x..y",
        "a@-x",
        "a@x\n",
        "a\x00@x.y",
        "a@x.y\u202e",
        "a" * 65 + "@x.y",
        "a@b@c.d",
        "\u212aate@x.y",  # the Kelvin sign, whose small letter is k
        "a@\u212aorp.y",
        "\uff41da@x.y",  # fullwidth
        "\ufb01n@x.y",  # a ligature
        "\u0430da@x.y",  # a Cyrillic a among Latin letters
        "p\u03b1ul@x.y",  # a Greek one
    ],
)
def test_these_are_none(typed: str):
    if typed == "a@x\n":
        assert words.email_of(typed) == "a@x"  # what is around an address is not of it
    else:
        assert words.email_of(typed) is None


def test_passwords_are_long_and_not_the_address():
    assert words.fault_of_password("correct horse", "a@b.c", 12) is None
    for wrong in ("short", "x" * 257, "aaaaaaaaaaaaaaaa", "ada.lovelace@example.com", "ada.lovelace"):
        assert words.fault_of_password(wrong, "ada.lovelace@example.com", 12)
