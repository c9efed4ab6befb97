"""Cookies of people who signed in: what they are worth at a gateway that knows accounts, and what ends them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cordee.adapters.credentials import Credentials
from cordee.adapters.keys import FileDirectory
from cordee.policy.session import SessionRules
from cordee.wire.credentials import Ended, Page, Principal, SigningKey, Tenant
from tests.adapters.test_tokens import AUDIENCE, ISSUER, NOW, PUBLIC, text, token
from tests.gateway.doubles import Gateway
from tests.gateway.test_sessions import CHAT, OWN, Browser

RULES = SessionRules(lifetime_s=4000.0, absolute_s=9000.0, ended_per_key_max=4)
KEPT_S = 6000.0  # accounts tell of an ended sign-in for so long
SCOPES = ["chats.read", "files.read", "inference"]  # of the user; the token holds inference and chats.read


class Person(Browser):
    """A browser at a gateway that follows accounts."""

    def __init__(self, gateway: Gateway, data: Path) -> None:
        self.credentials = Credentials(FileDirectory(data, {}), 16, lambda: self.now)
        self.revision = 0
        super().__init__(gateway, data, self.credentials, NOW, RULES)
        gateway.front._directory = self.credentials
        self.hear(principals=[Principal("user_1", "tenant_1", SCOPES, "m")])

    def hear(self, kept_s: float = KEPT_S, **told: Any) -> None:
        page = Page(
            "e", self.revision, self.revision + 1, ISSUER, AUDIENCE, ended_kept_s=kept_s,
            signing_keys=[SigningKey("k1", text(PUBLIC))], **told,
        )  # fmt: skip
        self.revision += 1
        self.gateway.call(lambda: self.credentials.known.take(page, self.now))
        self.next_second()

    def begin(self, shown: bytes) -> tuple[int, Any]:
        status, _, content = self.ask("POST", "/v1/sessions", Authorization=f"Bearer {shown.decode()}")
        return status, json.loads(content)


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    with Gateway() as gateway:
        yield Person(gateway, tmp_path)
    assert gateway.faults == []


def test_a_sign_in_is_exchanged_for_a_cookie_that_goes_on_when_the_token_has_expired(person: Person) -> None:
    status, shown = person.begin(token())
    assert status == 201
    assert (shown["key"], shown["tenant"], shown["sign_in"]) == ("user_1", "tenant_1", "family_1")
    assert shown["scopes"] == ["chats.read", "inference"]
    assert shown["expires_at"] == NOW + RULES.lifetime_s
    person.now += 3000
    person.next_second()
    assert person.ask("POST", "/v1/chat/completions", CHAT)[0] == 403
    status, headers, _ = person.ask("POST", "/v1/chat/completions", CHAT, **OWN)
    assert (status, "set-cookie" in headers) == (200, True)
    assert json.loads(person.ask("GET", "/v1/sessions")[2])["expires_at"] == NOW + KEPT_S
    person.now = NOW + KEPT_S
    person.next_second()
    assert person.ask()[0] == 401, "nobody tells any more whether the sign-in has ended"


@pytest.mark.parametrize(
    "told",
    [
        {"ended": [Ended("family_1", NOW + 660)]},
        {"principals": [Principal("user_1", "tenant_1", SCOPES, "m", is_active=False)]},
        {"principals": [Principal("user_1", "tenant_1", SCOPES, "another password")]},
        {"gone": ["user_1"]},
        {"gone": ["tenant_1"]},
        {"kept_s": 0.0},
    ],
)
def test_it_ends_with_the_sign_in_the_user_the_password_and_the_tenant(person: Person, told: dict[str, Any]) -> None:
    person.hear(tenants=[Tenant("tenant_1")])
    assert person.begin(token())[0] == 201
    assert person.ask()[0] == 200
    person.hear(**told)
    assert person.ask()[0] == 401
    person.now += 3000  # long after the last token
    person.hear(ended=[Ended("another", person.now)])
    assert person.ask()[0] == 401


def test_another_sign_in_of_the_same_user_goes_on(person: Person) -> None:
    assert person.begin(token(sid="family_2"))[0] == 201
    person.hear(ended=[Ended("family_1", NOW + 660)])
    assert person.ask()[0] == 200


def test_it_may_no_more_than_its_token_and_no_more_than_its_user_today(person: Person) -> None:
    assert person.begin(token(scope="chats.read admin"))[1]["scopes"] == ["chats.read"]
    assert person.ask()[0] == 403, "the user may call models, the token may not"
    assert person.begin(token())[0] == 201
    assert person.ask()[0] == 200
    person.hear(principals=[Principal("user_1", "tenant_1", ["chats.read"], "m")])
    assert person.ask()[0] == 403
    person.hear(principals=[Principal("user_1", "tenant_1", [*SCOPES, "admin"], "m")])
    assert json.loads(person.ask("GET", "/v1/sessions")[2])["scopes"] == ["chats.read", "inference"]


@pytest.mark.parametrize("changed", [{"client_id": "application_1"}, {"sid": ""}, {"client_id": ""}])
def test_tokens_of_applications_begin_none(person: Person, changed: dict[str, Any]) -> None:
    status, said = person.begin(token(**changed))
    assert (status, said["error"]["param"]) == (400, "Authorization")


def test_an_expired_token_and_one_whose_sign_in_has_ended_begin_none(person: Person) -> None:
    person.hear(ended=[Ended("family_1", NOW + 660)])
    assert person.begin(token())[0] == 401
    person.now += 600
    assert person.begin(token(sid="family_2"))[0] == 401


def test_none_begins_before_accounts_have_said_for_how_long_they_tell_of_ended_sign_ins(person: Person) -> None:
    person.hear(kept_s=0.0)
    assert person.begin(token())[0] == 503
    person.now += 1
    person.hear()
    assert person.begin(token())[0] == 201


def test_signing_out_of_one_session_ends_no_other_of_the_sign_in(person: Person) -> None:
    assert person.begin(token())[0] == 201
    first = person.cookie
    person.cookie = ""
    assert person.begin(token())[0] == 201
    assert person.ask("DELETE", "/v1/sessions", **OWN)[0] == 200
    person.cookie = first
    assert person.ask()[0] == 200
    assert person.credentials.identify(token()) is not None


def test_what_a_session_began_ends_with_its_sign_in(person: Person) -> None:
    assert person.begin(token())[0] == 201
    assert person.ask()[0] == 200
    caller = person.gateway.call(lambda: next(iter(person.sessions._known.values()))[1])
    assert person.credentials.still(caller) is not None
    person.hear(ended=[Ended("family_1", NOW + 660)])
    assert person.credentials.still(caller) is None
