"""Cookies at the front door, over real connections: what they are worth, when they are written anew, and what they cannot do."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cordee.adapters.sessions import FileSessions
from cordee.domain.caller import INFERENCE
from cordee.gateway.front import presented_key
from cordee.gateway.sessions import BrowserSessions
from cordee.policy.session import SessionRules
from cordee.ports import People
from tests.gateway import doubles
from tests.gateway.doubles import KEY, OTHER_KEY, Gateway

RULES = SessionRules(lifetime_s=100.0, absolute_s=250.0, ended_per_key_max=4)
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
OWN = {"Sec-Fetch-Site": "same-origin"}


class Browser:
    """Keeps its cookie, and the time of the gateway."""

    def __init__(
        self,
        gateway: Gateway,
        data: Path,
        people: People | None = None,
        now: float = 1000.0,
        rules: SessionRules = RULES,
    ) -> None:
        """`people`: who there is besides the keys of the gateway."""
        self.now = now
        self.gateway = gateway
        store = FileSessions(data, rules, 1e6, self.now)

        def begin() -> None:
            self.sessions = BrowserSessions(
                store, doubles.Directory() if people is None else people, rules, presented_key, lambda: self.now
            )
            self.sessions.add_to(gateway.front.paths)
            gateway.front.sessions = self.sessions

        gateway.call(begin)
        self.cookie = ""

    def ask(
        self, method: str = "GET", path: str = "/v1/models", body: dict[str, Any] | None = None, /, **headers: str
    ) -> Any:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            sent["Cookie"] = f"theme=dark; {self.cookie}"
        status, got, content = self.gateway.ask(body or b"", path, method, key=None, headers=sent)
        if "set-cookie" in got:
            self.cookie = got["set-cookie"].partition(";")[0]
        return status, got, content

    def sign_in(self, key: str = KEY) -> dict[str, Any]:
        status, _, content = self.ask("POST", "/v1/sessions", Authorization=f"Bearer {key}")
        assert status == 201
        shown: dict[str, Any] = json.loads(content)
        return shown

    def next_second(self) -> None:
        self.gateway.call(self.gateway.front.forget_keys)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Gateway() as gateway:
        yield Browser(gateway, tmp_path)
    assert gateway.faults == []


def test_a_session_answers_for_its_key(browser: Browser) -> None:
    shown = browser.sign_in()
    assert (shown["key"], shown["tenant"], shown["created"], shown["expires_at"]) == ("k1", "acme", 1000, 1100)
    assert browser.ask()[0] == 200
    status, _, content = browser.ask("POST", "/v1/chat/completions", CHAT, **OWN)
    assert (status, json.loads(content)["object"]) == (200, "chat.completion")
    assert json.loads(browser.ask("GET", "/v1/sessions")[2]) == shown


def test_without_tls_the_cookie_is_plain_and_with_it_bound_to_the_host(browser: Browser) -> None:
    plain = browser.ask("POST", "/v1/sessions", Authorization=f"Bearer {KEY}")[1]["set-cookie"]
    secure = browser.ask("POST", "/v1/sessions", Authorization=f"Bearer {KEY}", X_Forwarded_Proto="https")[1][
        "set-cookie"
    ]
    assert plain.startswith("cordee-session=")
    assert "Secure" not in plain
    assert secure.startswith("__Host-cordee=")
    assert secure.endswith("; Secure")
    browser.cookie = plain.partition(";")[0]
    assert browser.ask(X_Forwarded_Proto="https")[0] == 401  # somebody on the way could have planted it


def test_what_changes_something_must_be_the_pages_own(browser: Browser) -> None:
    token = browser.sign_in()["csrf_token"]
    status, _, content = browser.ask("POST", "/v1/chat/completions", CHAT)
    assert (status, json.loads(content)["error"]["code"]) == (403, "cross_site_request")
    assert browser.ask("POST", "/v1/chat/completions", CHAT, X_CSRF_Token=token)[0] == 200
    assert browser.ask("POST", "/v1/chat/completions", CHAT, X_CSRF_Token=token[:-1] + "!")[0] == 403


def test_the_cookie_is_written_anew_in_the_second_half_of_its_life_also_on_a_stream(browser: Browser) -> None:
    browser.sign_in()
    first = browser.cookie
    browser.now += 49
    browser.next_second()
    assert "set-cookie" not in browser.ask()[1]
    browser.now += 2
    browser.next_second()
    status, headers, content = browser.ask("POST", "/v1/chat/completions", {**CHAT, "stream": True}, **OWN)
    assert status == 200
    assert content.endswith(b"data: [DONE]\n\n")
    assert headers["set-cookie"].startswith("cordee-session=")
    assert headers["x-csrf-token"]
    assert browser.cookie != first
    browser.now += 60
    browser.next_second()
    assert browser.ask()[0] == 200  # the first one would be over


def test_no_renewal_outlives_the_login_by_more_than_the_longest_time(browser: Browser) -> None:
    browser.sign_in()
    for _ in range(4):
        browser.now += 60
        browser.next_second()
        assert browser.ask()[0] == 200
    browser.now += 11
    browser.next_second()
    assert browser.ask()[0] == 401


def test_a_session_that_was_ended_is_over_and_its_cookie_taken_back(browser: Browser) -> None:
    browser.sign_in()
    kept = browser.cookie
    assert browser.ask("DELETE", "/v1/sessions")[0] == 403
    status, headers, _ = browser.ask("DELETE", "/v1/sessions", **OWN)
    assert status == 200
    assert "Max-Age=0" in headers["set-cookie"]
    browser.cookie = kept
    assert browser.ask()[0] == 401


def test_a_revoked_key_ends_its_sessions_at_the_next_look(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.sign_in(OTHER_KEY)
    assert browser.ask()[0] == 200
    monkeypatch.delitem(doubles.CALLERS, OTHER_KEY)
    browser.next_second()
    assert browser.ask()[0] == 401


def test_a_changed_key_of_the_same_id_ends_them_too(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    browser.sign_in(OTHER_KEY)
    caller = doubles.CALLERS[OTHER_KEY]
    monkeypatch.delitem(doubles.CALLERS, OTHER_KEY)
    monkeypatch.setitem(doubles.CALLERS, "sk-new", caller)
    browser.next_second()
    assert browser.ask()[0] == 401


@pytest.mark.parametrize("grant", ["family", ""])
def test_the_token_of_an_application_begins_no_session(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, grant: str
) -> None:
    user = doubles.CALLERS[KEY]
    monkeypatch.setitem(doubles.CALLERS, "token", replace(user, scopes=frozenset({INFERENCE}), grant=grant))
    status, headers, content = browser.ask("POST", "/v1/sessions", Authorization="Bearer token")
    assert status == 400
    assert "set-cookie" not in headers
    assert "access token" in json.loads(content)["error"]["message"]


def test_a_key_that_may_no_calls_has_a_session_for_what_it_may(browser: Browser) -> None:
    browser.sign_in("sk-narrow")
    assert browser.ask("GET", "/v1/sessions")[0] == 200
    assert browser.ask()[0] == 403


def test_a_session_does_not_beget_sessions_and_a_key_beside_it_is_what_counts(browser: Browser) -> None:
    browser.sign_in()
    assert browser.ask("POST", "/v1/sessions", **OWN)[0] == 400
    assert browser.ask(Authorization="Bearer wrong")[0] == 401
    assert browser.ask("GET", "/v1/sessions", Authorization=f"Bearer {KEY}")[0] == 404


@pytest.mark.parametrize("cookie", ["cordee-session=x", "cordee-session=" + "x" * 5000, "cordee-session=W10.AAAA"])
def test_a_cookie_that_is_none_of_ours_is_401(browser: Browser, cookie: str) -> None:
    browser.cookie = cookie
    assert browser.ask()[0] == 401


def test_other_peoples_cookies_mean_nothing_and_two_of_ours_are_refused(browser: Browser) -> None:
    browser.cookie = "other=1"
    status, _, content = browser.ask()
    assert (status, json.loads(content)["error"]["type"]) == (401, "authentication_error")
    browser.cookie = "cordee-session=a; cordee-session=b"
    assert browser.ask()[0] == 400


def test_sessions_of_many_threads_stay_apart(browser: Browser) -> None:
    cookies = []
    for key in (KEY, OTHER_KEY):
        browser.cookie = ""
        browser.sign_in(key)
        cookies.append(browser.cookie)
    seen: list[tuple[int, str]] = []

    def look(n: int) -> None:
        _, _, content = browser.gateway.ask(b"", "/v1/sessions", "GET", key=None, headers={"Cookie": cookies[n]})
        seen.append((n, json.loads(content)["key"]))

    threads = [threading.Thread(target=look, args=(n % 2,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(seen) == {(0, "k1"), (1, "k2")}
