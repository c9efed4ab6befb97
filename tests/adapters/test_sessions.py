"""Sessions in the data directory: any gateway reads what another sealed; secrets rotate and nobody is logged out by it."""

import base64
import json
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.adapters.sessions import ADOPT_S, ENDED_FILE, SECRETS_FILE, FileSessions, SessionsError
from cordee.domain.caller import EVERY_SCOPE
from cordee.policy.session import Session, SessionRules, SignIn

RULES = SessionRules(lifetime_s=100.0, absolute_s=1000.0, ended_per_key_max=8)
ROTATE_S = 50.0
SESSION = Session("id", "key", "mark", 0.0, 0.0)


def store(data: Path, now: float = 0.0) -> FileSessions:
    return FileSessions(data, RULES, ROTATE_S, now)


def test_what_one_gateway_seals_another_one_reads(tmp_path: Path) -> None:
    one, other = store(tmp_path), store(tmp_path)
    assert other.unseal(one.seal(SESSION)) == SESSION
    assert other.is_token_of(SESSION, one.token_of(SESSION))


@given(
    st.text(max_size=30), st.text(max_size=30), st.frozensets(st.sampled_from(sorted(EVERY_SCOPE | {"openid", "email"}))),
    st.floats(0, 1e10),
)  # fmt: skip
def test_a_persons_session_is_read_as_it_was_sealed_and_fits(
    name: str, user: str, scopes: frozenset[str], until_s: float
) -> None:
    with TemporaryDirectory() as data:
        one = store(Path(data))
        mine = Session(name, user, "mark", 1.5, 2.5, SignIn("family", scopes, until_s))
        assert one.unseal(one.seal(mine)) == mine


def test_cookies_of_before_hold_and_versions_of_before_read_no_others(tmp_path: Path) -> None:
    one = store(tmp_path)
    before = one._cookies.sign(base64.urlsafe_b64encode(json.dumps(["id", "key", "mark", 0.0, 0.0]).encode()))
    assert one.unseal(before) == SESSION
    mine = one.seal(Session("id", "user", "mark", 0.0, 0.0, SignIn("family", frozenset({"inference"}), 9.0)))
    content = base64.urlsafe_b64decode(one._cookies.unsign(mine))
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(content, type=tuple[str, str, str, float, float])


def test_the_secrets_are_for_their_owner_only_and_never_in_a_cookie(tmp_path: Path) -> None:
    cookie = store(tmp_path).seal(SESSION)
    path = tmp_path / SECRETS_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_bytes())["secrets"][0]["secret"].encode() not in cookie


def test_nothing_else_is_read_as_a_session(tmp_path: Path) -> None:
    one = store(tmp_path)
    sealed = one.seal(SESSION)
    foreign = store(tmp_path / "other").seal(SESSION)
    for token in (
        b"",
        b".",
        b"x" * 100_000,
        foreign,
        sealed[:-1],
        sealed + b"x",
        b"W10." + sealed.split(b".")[1],
        b"\xff\x00",
    ):
        assert one.unseal(token) is None
    assert not one.is_token_of(SESSION, sealed.split(b".")[1])  # a cookie's signature is no token


def test_a_new_secret_signs_only_when_everybody_has_read_it(tmp_path: Path) -> None:
    one, slow = store(tmp_path), store(tmp_path)
    one.refresh(ROTATE_S)  # makes the second secret
    assert len(json.loads((tmp_path / SECRETS_FILE).read_bytes())["secrets"]) == 2
    assert slow.unseal(one.seal(SESSION)) == SESSION  # which has not looked since
    slow.refresh(ROTATE_S + 1)
    one.refresh(ROTATE_S + ADOPT_S)
    assert slow.unseal(one.seal(SESSION)) == SESSION


def test_a_secret_verifies_for_a_lifetime_after_it_was_replaced_and_is_then_dropped(tmp_path: Path) -> None:
    one = store(tmp_path)
    first = one.seal(SESSION)
    for now in (50.0, 100.0):
        one.refresh(now)
        assert one.unseal(first) == SESSION
    one.refresh(150.0)
    assert one.unseal(first) == SESSION  # replaced at 50, adopted at 55: signed until then
    one.refresh(200.0)
    assert one.unseal(first) is None
    assert len(json.loads((tmp_path / SECRETS_FILE).read_bytes())["secrets"]) <= 4


def test_two_gateways_that_rotate_at_once_make_one_secret(tmp_path: Path) -> None:
    one, other = store(tmp_path), store(tmp_path)
    one.refresh(ROTATE_S)
    other.refresh(ROTATE_S)
    assert len(json.loads((tmp_path / SECRETS_FILE).read_bytes())["secrets"]) == 2


def test_an_end_is_seen_by_others_at_their_next_look(tmp_path: Path) -> None:
    one, other = store(tmp_path), store(tmp_path)
    one.end(SESSION, 1.0)
    assert one.has_ended(SESSION)
    other.refresh(2.0)
    assert other.has_ended(SESSION)
    assert store(tmp_path, 3.0).has_ended(SESSION)


def test_ends_at_two_gateways_are_both_kept(tmp_path: Path) -> None:
    one, other = store(tmp_path), store(tmp_path)
    second = Session("id2", "key", "mark", 0.0, 0.0)
    one.end(SESSION, 1.0)
    other.end(second, 1.0)
    one.refresh(2.0)
    assert one.has_ended(SESSION)
    assert one.has_ended(second)


def test_broken_files_change_nothing_while_it_runs_and_stop_a_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = store(tmp_path)
    sealed = one.seal(SESSION)
    one.end(Session("gone", "key", "mark", 0.0, 0.0), 1.0)
    for name in (SECRETS_FILE, ENDED_FILE):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        one.refresh(2.0)
        one.refresh(3.0)
        assert one.unseal(sealed) == SESSION
        assert one.has_ended(Session("gone", "key", "mark", 0.0, 0.0))
        with pytest.raises(SessionsError, match=name):
            store(tmp_path, 4.0)
        (tmp_path / name).write_bytes(whole)
        one.refresh(5.0)
    assert len(caplog.records) == 2
    secret = json.loads((tmp_path / SECRETS_FILE).read_bytes())["secrets"][0]["secret"]
    assert secret not in caplog.text
