from __future__ import annotations

import pytest

from cordee.domain.caller import Caller
from cordee.gateway.on_behalf import NAME, OnBehalf
from cordee.http.exchange import Answer
from cordee.http.request import Request
from cordee.wire.vouch import TO_GATEWAYS, TO_SERVICES, Vouched, vouch

SECRET, NOW = b"i" * 32, 1_800_000_000.0
HOLDER = Caller("key_1", "tenant_1", frozenset({"inference"}), subject="user_1", grant="mark")
ASKED = Vouched("tenant_1", "key_1", "user_1", frozenset({"inference", "admin"}))


class Holders:
    def holder(self, key_id: str) -> tuple[Caller, str] | None:
        return (HOLDER, "mark") if key_id == "key_1" else None


def asked(value: str, **headers: bytes) -> Caller | Answer:
    more = {name.replace("_", "-").encode(): content for name, content in headers.items()}
    request = Request(b"POST", "1.1", {NAME: value.encode("latin-1"), **more}, keep_alive=True)
    return OnBehalf(Holders(), SECRET, lambda: NOW).caller(request)


def test_a_service_asks_as_who_the_holder_is_now_not_as_who_the_seal_says():
    assert asked(vouch(ASKED, TO_GATEWAYS, SECRET, NOW)) == HOLDER


def test_a_service_may_no_more_for_a_token_than_the_token_might():
    found = asked(vouch(Vouched("tenant_1", "key_1", "user_1", frozenset({"chats.write"})), TO_GATEWAYS, SECRET, NOW))
    assert isinstance(found, Caller)
    assert (found.key_id, found.scopes) == ("key_1", frozenset())


def test_the_installation_itself_holds_what_it_says():
    found = asked(vouch(Vouched("t", "batches", "", frozenset({"system"})), TO_GATEWAYS, SECRET, NOW))
    assert isinstance(found, Caller)
    assert (found.tenant, found.scopes) == ("t", frozenset({"system"}))


@pytest.mark.parametrize(
    ("value", "status", "code"),
    [
        ("", 401, b"invalid_api_key"), ("v1.é.é", 401, b"invalid_api_key"),
        (vouch(ASKED, TO_SERVICES, SECRET, NOW), 401, b"invalid_api_key"),
        (vouch(ASKED, TO_GATEWAYS, b"x" * 32, NOW), 401, b"invalid_api_key"),
        (vouch(ASKED, TO_GATEWAYS, SECRET, NOW - 61), 401, b"invalid_api_key"),
        (vouch(Vouched("tenant_1", "key_2", "", frozenset()), TO_GATEWAYS, SECRET, NOW), 401, b"key_revoked"),
        (vouch(Vouched("tenant_2", "key_1", "", frozenset()), TO_GATEWAYS, SECRET, NOW), 401, b"key_revoked"),
    ],
)  # fmt: skip
def test_what_nobody_of_ours_says_lately_is_refused(value: str, status: int, code: bytes):
    answer = asked(value)
    assert isinstance(answer, Answer)
    assert answer.status == status
    assert code in answer.body


@pytest.mark.parametrize("name", ["authorization", "x_api_key", "api_key"])
def test_a_key_beside_it_is_one_too_many(name: str):
    answer = asked(vouch(ASKED, TO_GATEWAYS, SECRET, NOW), **{name: b"Bearer x"})
    assert isinstance(answer, Answer)
    assert answer.status == 400
