from __future__ import annotations

import base64
import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.services import on_both
from tests.services.accounts.conftest import OWNER, PASSWORD, STRANGER, House

pytestmark = pytest.mark.anyio
REDIRECT = "https://app.example/cb"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


async def _application(house: House, confidential: bool = True) -> dict[str, Any]:
    body = {
        "name": "<b>App</b>",
        "scopes": ["inference", "chats.read"],
        "redirect_uris": [REDIRECT],
        "is_confidential": confidential,
    }
    made: dict[str, Any] = await house.ok("POST", "/v1/applications", await house.token(), body)
    return made


def _shown(one: dict[str, Any]) -> dict[str, str]:
    return {"client_id": one["id"]} | ({"client_secret": one["client_secret"]} if one["client_secret"] else {})


def _query(one: dict[str, Any], **more: str) -> dict[str, str]:
    return {"client_id": one["id"], "redirect_uri": REDIRECT, "response_type": "code", "code_challenge": CHALLENGE,
            "code_challenge_method": "S256", "state": "s&1", "scope": "openid email inference", "nonce": "n1", **more}  # fmt: skip


async def _code(house: House, one: dict[str, Any]) -> str:
    answer = await house.form("/oauth/authorize", **_query(one), email=OWNER, password=PASSWORD, answer="allow")
    assert answer.status_code == 303, answer.text
    said = parse_qs(urlsplit(answer.headers["location"]).query)
    assert (said["state"], said["iss"]) == (["s&1"], ["http://127.0.0.1:8000"])
    return said["code"][0]


async def test_an_application_acts_for_itself_with_what_it_was_given(house: House):
    one = await _application(house)
    basic = base64.b64encode(f"{one['id']}:{one['client_secret']}".encode()).decode()
    answer = await house.client.post(
        "/oauth/token",
        data={"grant_type": "client_credentials", "scope": "inference"},
        headers={"authorization": f"Basic {basic}"},
    )
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    me = await house.ok("GET", "/v1/auth/me", answer.json()["access_token"])
    assert me == {"id": one["id"], "tenant": one["tenant"], "role": None, "scopes": ["inference"]}
    await house.ok("DELETE", f"/v1/applications/{one['id']}", await house.token())
    assert (await house.ask("GET", "/v1/auth/me", answer.json()["access_token"])).status_code == 401


async def test_wrong_clients_and_grants_are_told_in_oauths_words(house: House):
    one, public = await _application(house), await _application(house, confidential=False)
    shown = _shown(one)
    for fields, status, error in (
        ({**shown, "client_secret": "wrong", "grant_type": "client_credentials"}, 401, "invalid_client"),
        ({"client_id": one["id"], "grant_type": "client_credentials"}, 401, "invalid_client"),
        ({"grant_type": "client_credentials"}, 401, "invalid_client"),
        ({**_shown(public), "grant_type": "client_credentials"}, 400, "unauthorized_client"),
        ({**shown, "grant_type": "password"}, 400, "unsupported_grant_type"),
        (shown, 400, "unsupported_grant_type"),
        ({**shown, "grant_type": "client_credentials", "scope": "users.write"}, 400, "invalid_scope"),
        ({**shown, "grant_type": "client_credentials", "scope": "nonsense"}, 400, "invalid_scope"),
        ({**shown, "grant_type": "refresh_token"}, 400, "invalid_request"),
        ({**shown, "grant_type": "refresh_token", "refresh_token": "x"}, 400, "invalid_grant"),
        ({**shown, "grant_type": DEVICE, "device_code": "x"}, 400, "expired_token"),
        ({"client_id": "\x00", "grant_type": "client_credentials"}, 400, "invalid_request"),
    ):
        answer = await house.form("/oauth/token", **fields)
        assert (answer.status_code, answer.json()["error"]) == (status, error), fields
    for content in (b"a=1&a=2", b"\xff", b"&".join(b"a%d=1" % n for n in range(99)), b"a=%ff"):
        answer = await house.client.post(
            "/oauth/token", content=content, headers={"content-type": "application/x-www-form-urlencoded"}
        )
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert (await house.ask("POST", "/oauth/token", body={"grant_type": "client_credentials"})).status_code == 400


@on_both
async def test_a_user_allows_an_application_with_a_code_and_pkce(house: House):
    one = await _application(house)
    page = await house.client.get("/oauth/authorize", params=_query(one))
    assert page.status_code == 200
    assert "&lt;b&gt;App&lt;/b&gt;" in page.text
    assert "<b>App" not in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    code = await _code(house, one)
    fields = {
        **_shown(one),
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
    }
    tokens = (await house.form("/oauth/token", **fields)).json()
    assert tokens["scope"] == "email inference openid"
    facts = await house.ok("GET", "/oauth/userinfo", tokens["access_token"])
    assert facts["email"] == OWNER
    claims = json.loads(base64.urlsafe_b64decode(tokens["id_token"].split(".")[1] + "=="))
    assert (claims["aud"], claims["nonce"], claims["sub"]) == (one["id"], "n1", facts["sub"])
    # An identity token is no access token.
    assert (await house.ask("GET", "/v1/auth/me", tokens["id_token"])).status_code == 401
    refreshed = (
        await house.form(
            "/oauth/token", **_shown(one), grant_type="refresh_token", refresh_token=tokens["refresh_token"]
        )
    ).json()
    assert await house.ok("GET", "/v1/auth/me", refreshed["access_token"])
    # The code again: somebody else has it too, so what was made of it ends.
    again = await house.form("/oauth/token", **fields)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert (await house.ask("GET", "/v1/auth/me", refreshed["access_token"])).status_code == 401


@pytest.mark.parametrize("wrong", ["verifier", "redirect", "client", "late"])
async def test_a_stolen_code_is_worth_nothing(house: House, wrong: str):
    one = await _application(house)
    code = await _code(house, one)
    fields = {
        **_shown(one),
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT,
        "code_verifier": VERIFIER,
    }
    if wrong == "verifier":
        fields["code_verifier"] = "w" * 43
    elif wrong == "redirect":
        fields["redirect_uri"] = "https://evil.example/"
    elif wrong == "client":
        fields |= _shown(await _application(house))
    else:
        house.clock += 61
    answer = await house.form("/oauth/token", **fields)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_grant")


async def test_nothing_is_sent_to_a_redirect_that_was_not_registered(house: House):
    one = await _application(house)
    for more in (
        {"redirect_uri": "https://evil.example/cb"},
        {"redirect_uri": REDIRECT + "/x"},
        {"client_id": "app_x"},
        {"state": "é"},
    ):
        answer = await house.client.get("/oauth/authorize", params=_query(one, **more))
        assert (answer.status_code, "location" in answer.headers) == (400, False)
    for more, error in (
        ({"response_type": "token"}, "unsupported_response_type"), ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"), ({"scope": "users.write"}, "invalid_scope"),
    ):  # fmt: skip
        answer = await house.client.get("/oauth/authorize", params=_query(one, **more))
        assert answer.status_code == 303
        assert answer.headers["location"].startswith(f"{REDIRECT}?error={error}")


async def test_a_user_may_say_no_mistype_or_be_somebody_elses(house: House):
    one = await _application(house)
    denied = await house.form("/oauth/authorize", **_query(one), answer="deny")
    assert "error=access_denied" in denied.headers["location"]
    for email, password, status in ((OWNER, "wrong password", 401), (STRANGER, PASSWORD, 403), ("", "", 401)):
        answer = await house.form("/oauth/authorize", **_query(one), email=email, password=password, answer="allow")
        assert (answer.status_code, "location" in answer.headers) == (status, False)
        assert PASSWORD not in answer.text


@on_both
async def test_a_device_waits_until_somebody_answers(house: House):
    one = await _application(house, confidential=False)
    waiting = (await house.form("/oauth/device_authorization", client_id=one["id"], scope="inference")).json()
    poll = {"client_id": one["id"], "grant_type": DEVICE, "device_code": waiting["device_code"]}
    assert (await house.form("/oauth/token", **poll)).json()["error"] == "authorization_pending"
    assert (await house.form("/oauth/token", **poll)).json()["error"] == "slow_down"
    page = await house.client.get("/oauth/device", params={"user_code": waiting["user_code"]})
    assert "inference" in page.text
    form = {"user_code": waiting["user_code"].lower(), "answer": "allow", "email": OWNER, "password": PASSWORD}
    assert (await house.form("/oauth/device", **{**form, "email": STRANGER})).status_code == 403
    assert (await house.form("/oauth/device", **form)).status_code == 200
    house.clock += 6
    tokens = (await house.form("/oauth/token", **poll)).json()
    assert (await house.ok("GET", "/v1/auth/me", tokens["access_token"]))["scopes"] == ["inference"]
    assert (await house.form("/oauth/token", **poll)).json()["error"] == "expired_token"
    assert (await house.form("/oauth/device", **form)).status_code == 404


async def test_a_device_can_be_answered_by_who_has_signed_in(house: House):
    one = await _application(house)
    waiting = (await house.form("/oauth/device_authorization", **_shown(one))).json()
    body = {"user_code": waiting["user_code"], "allow": False}
    assert (await house.ask("POST", "/v1/auth/devices", await house.token(STRANGER), body)).status_code == 403
    assert (await house.ok("POST", "/v1/auth/devices", await house.token(), body)) == {"allowed": False}
    assert (await house.ask("POST", "/v1/auth/devices", await house.token(), body)).status_code == 404
    answer = await house.form("/oauth/token", **_shown(one), grant_type=DEVICE, device_code=waiting["device_code"])
    assert answer.json()["error"] == "access_denied"


@on_both
async def test_tokens_are_introspected_and_revoked(house: House):
    one = await _application(house)
    fields = {
        **_shown(one),
        "grant_type": "authorization_code",
        "code": await _code(house, one),
        "code_verifier": VERIFIER,
    }
    tokens = (await house.form("/oauth/token", **fields)).json()
    shown = [tokens["access_token"], tokens["refresh_token"]]
    for token in shown:
        said = (await house.form("/oauth/introspect", **_shown(one), token=token)).json()
        assert (said["active"], said["client_id"]) == (True, one["id"])
    other = await house.token(STRANGER)
    for token in (other, "nonsense"):
        assert (await house.form("/oauth/introspect", **_shown(one), token=token)).json() == {"active": False}
        assert (await house.form("/oauth/revoke", **_shown(one), token=token)).status_code == 200
    assert await house.ok("GET", "/v1/auth/me", other)
    assert (await house.form("/oauth/revoke", **_shown(one), token=tokens["refresh_token"])).status_code == 200
    for token in shown:
        assert (await house.form("/oauth/introspect", **_shown(one), token=token)).json() == {"active": False}
    public = await _application(house, confidential=False)
    assert (await house.form("/oauth/introspect", **_shown(public), token="x")).status_code == 401


async def test_a_renewed_secret_ends_the_old_one(house: House):
    one = await _application(house)
    renewed = await house.ok("POST", f"/v1/applications/{one['id']}", await house.token(), {"renew_secret": True})
    for shown, status in ((one, 401), (renewed, 200)):
        assert (
            await house.form("/oauth/token", **_shown(shown), grant_type="client_credentials")
        ).status_code == status


async def test_what_is_discovered_is_there(house: House):
    for path in ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"):
        said = await house.ok("GET", path)
        assert said["code_challenge_methods_supported"] == ["S256"]
        for name, uri in said.items():
            if name.endswith("_endpoint") or name == "jwks_uri":
                answer = await house.client.options(uri.removeprefix(said["issuer"]))
                assert answer.status_code == 405, name


async def test_the_description_names_every_error(house: House):
    described = await house.ok("GET", "/v1/accounts/openapi.json")
    for path, operations in described["paths"].items():
        for operation in operations.values():
            assert "422" not in operation["responses"]
            if path.startswith("/v1/"):
                assert {"200", "400", "401", "404", "409"} <= set(operation["responses"]), path
