"""What RFC 9700 tells of: where answers may go, who may fetch them, and what becomes of one that two parties have."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.services import on_both
from tests.services.accounts.conftest import OWNER, PASSWORD, House
from tests.services.accounts.test_oauth import REDIRECT, VERIFIER, _application, _code, _query, _shown

pytestmark = pytest.mark.anyio
STRANGE = (
    "https://app.example@evil.example/cb", "https://app.example.evil.example/cb", "//evil.example/cb", "//app.example/cb",
    "https://app.example/cb?next=https://evil.example", "https://app.example/cb#x", "https://app.example/cb/", "https://app.example/",
    "https://app.example/cb/../../evil", "https://app.example:444/cb", "http://app.example/cb", "HTTPS://APP.EXAMPLE/cb",
    "https://app.example\\@evil.example/cb", "https://app.example/%63b", "https://app.example/cb\r\nLocation: https://evil.example",
    "javascript:alert(1)", "data:text/html,x", "",
)  # fmt: skip


async def test_nobody_is_sent_where_the_application_did_not_say(house: House):
    one = await _application(house)
    for uri in STRANGE:
        query = _query(one, redirect_uri=uri)
        shown = await house.client.get("/oauth/authorize", params=query)
        allowed = await house.form("/oauth/authorize", **query, email=OWNER, password=PASSWORD, answer="allow")
        denied = await house.form("/oauth/authorize", **query, answer="deny")
        for answer in (shown, allowed, denied):
            assert (answer.status_code, "location" in answer.headers) == (400, False), uri


async def test_a_redirect_that_is_not_said_or_said_twice_is_refused(house: House):
    query = _query(await _application(house))
    del query["redirect_uri"]
    assert (await house.client.get("/oauth/authorize", params=query)).status_code == 400
    twice = {**query, "redirect_uri": [REDIRECT, "https://evil.example/cb"]}
    answer = await house.client.get("/oauth/authorize", params=twice)
    assert (answer.status_code, "location" in answer.headers) == (400, False)


async def test_every_answer_says_who_gives_it(house: House):
    """Against mix-up (RFC 9207): errors, too."""
    one = await _application(house)
    denied = await house.form("/oauth/authorize", **_query(one), answer="deny")
    refused = await house.client.get("/oauth/authorize", params=_query(one, response_type="token"))
    for answer in (denied, refused):
        said = parse_qs(urlsplit(answer.headers["location"]).query)
        assert (said["iss"], said["state"]) == ([house.settings.issuer], ["s&1"])
    discovered = await house.ok("GET", "/.well-known/openid-configuration")
    assert discovered["authorization_response_iss_parameter_supported"] is True


@pytest.mark.parametrize("confidential", [True, False])
async def test_without_the_proof_a_code_is_worth_nothing(house: House, confidential: bool):
    one = await _application(house, confidential)
    fields = {**_shown(one), "grant_type": "authorization_code", "redirect_uri": REDIRECT}
    for proof in ({}, {"code_verifier": ""}, {"code_verifier": "short"}, {"code_verifier": VERIFIER + "\n"}):
        answer = await house.form("/oauth/token", **fields, code=await _code(house, one), **proof)
        assert (answer.status_code, answer.json()["error"]) in ((400, "invalid_request"), (400, "invalid_grant"))
    query = _query(one)
    for missing in ("code_challenge", "code_challenge_method"):
        answer = await house.client.get(
            "/oauth/authorize", params={name: query[name] for name in query if name != missing}
        )
        assert "error=invalid_request" in answer.headers["location"]


@on_both
async def test_a_refresh_token_that_two_parties_have_ends_what_both_have(house: House):
    one, other = await _application(house), await _application(house)
    proof = {"redirect_uri": REDIRECT, "code_verifier": VERIFIER}
    code = await _code(house, one)
    first = (
        await house.form("/oauth/token", **_shown(one), grant_type="authorization_code", code=code, **proof)
    ).json()

    async def refresh(client: dict[str, str], token: str) -> tuple[int, str]:
        answer = await house.form("/oauth/token", **client, grant_type="refresh_token", refresh_token=token)
        return answer.status_code, answer.json().get("error") or answer.json()["refresh_token"]

    assert await refresh(_shown(other), first["refresh_token"]) == (400, "invalid_grant")
    status, second = await refresh(_shown(one), first["refresh_token"])
    assert status == 200
    assert await refresh(_shown(one), first["refresh_token"]) == (400, "invalid_grant")
    assert await refresh(_shown(one), second) == (400, "invalid_grant")
    assert (await house.ask("GET", "/v1/auth/me", first["access_token"])).status_code == 401
