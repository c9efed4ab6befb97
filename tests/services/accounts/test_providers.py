from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import re
import shutil
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import httpx
import msgspec
import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from cordee.config.sections.services import Accounts, DatabaseSettings, Passwords, Provider
from cordee.domain.caller import UNLIMITED
from cordee.services.accounts.membership import Person
from cordee.services.accounts.records import Tenant
from cordee.services.accounts.rules.rights import Role
from cordee.services.accounts.store import people
from tests.services import on_both
from tests.services.accounts.conftest import OWNER, PASSWORD, House
from tests.services.accounts.provider import CLIENT, ISSUER, Double, by_hand, es256_with, form_of, hmac_with

pytestmark = pytest.mark.anyio
HERE = "http://127.0.0.1:9000"
TENANT = "tenant_1"
LEAVE, CALLBACK, ANSWER = (f"/oauth/providers/idp{end}" for end in ("", "/callback", "/answer"))
REDIRECT = "https://app.example/cb"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
CHEAP = Passwords(memory_kib=8, passes=1, lanes=1)


@contextlib.asynccontextmanager
async def relying(
    data: Path, migrated: Path, database: DatabaseSettings, outside: httpx.AsyncBaseTransport, **more: Any
) -> AsyncIterator[House]:
    """Accounts whose people sign in by the provider `idp`."""
    if not database.url:
        (data / "services").mkdir(parents=True)
        shutil.copy(migrated, data / "services")
    idp = {"issuer": ISSUER, "client_id": CLIENT, "tenant": TENANT, "domains": ["example.com"], **more}
    provider = msgspec.convert(idp, Provider)
    settings = Accounts(issuer=HERE, passwords=CHEAP, database=database, providers={"idp": provider})
    house = House(settings, data, outside)
    async with house.app.router.lifespan_context(house.app), house.client:
        service = house.app.state.service
        async with service.changing() as on:
            await people.add_tenant(on, Tenant(TENANT, "Ours", house.clock, True, UNLIMITED))
        made = await _password_user(house, OWNER)
        assert made.role is Role.OWNER
        yield house


async def _password_user(house: House, email: str, tenant: str = TENANT) -> Any:
    from cordee.services.accounts.membership import _made  # noqa: PLC0415 - the first owner's own way is through a terminal

    user = await _made(house.app.state.service, tenant, Person(email, email, Role.OWNER, PASSWORD), "")
    async with house.app.state.service.changing() as on:
        await people.add_user(on, user)
    return user


@pytest.fixture
async def house(database_settings: DatabaseSettings, tmp_path: Path, migrated: Path) -> AsyncIterator[House]:
    double = Double(lambda: 1_800_000_000.0)
    async with relying(tmp_path, migrated, database_settings, double.transport()) as made:
        made.double = double  # type: ignore[attr-defined]  # what the test plays with
        double.now = lambda: made.clock
        yield made


def idp(house: House) -> Double:
    found: Double = house.double  # type: ignore[attr-defined]
    return found


async def _application(house: House) -> dict[str, Any]:
    body = {"name": "App", "scopes": ["inference", "chats.read"], "redirect_uris": [REDIRECT], "is_confidential": False}
    made: dict[str, Any] = await house.ok("POST", "/v1/applications", await house.token(), body)
    return made


async def _query(house: House) -> dict[str, str]:
    one = await _application(house)
    return {"client_id": one["id"], "redirect_uri": REDIRECT, "response_type": "code", "code_challenge": CHALLENGE,
            "code_challenge_method": "S256", "state": "s&1", "scope": "openid email inference"}  # fmt: skip


async def _left(house: House, query: dict[str, str] | None = None) -> str:
    answer = await house.client.get(LEAVE, params=query or await _query(house))
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


async def _back(house: House) -> httpx.Response:
    return await house.client.get(CALLBACK, params=idp(house).sign_in(await _left(house)))


def _ticket(page: httpx.Response) -> str:
    found = re.search(r'name="ticket" value="([^"]+)"', page.text)
    assert found is not None, page.text
    return found[1]


async def _tokens(house: House, page: httpx.Response, client: str) -> dict[str, Any]:
    allowed = await house.form(ANSWER, ticket=_ticket(page), answer="allow")
    assert allowed.status_code == 303, allowed.text
    said = parse_qs(urlsplit(allowed.headers["location"]).query)
    assert (said["state"], said["iss"]) == (["s&1"], [HERE])
    form = {"grant_type": "authorization_code", "client_id": client, "code": said["code"][0], "code_verifier": VERIFIER}
    answer = await house.form("/oauth/token", **form)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@on_both
async def test_a_person_signs_in_by_a_provider_and_is_made_a_user_once(house: House):
    query = await _query(house)
    page = await house.client.get("/oauth/authorize", params=query)
    link = re.search(r'<a href="([^"]+)">Sign in with idp</a>', page.text)
    assert link is not None
    left = await house.client.get(unescape(link[1]))
    uri = left.headers["location"]
    assert uri.startswith(f"{ISSUER}/auth?")
    cookie = left.headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=lax", "Path=/oauth/providers/"))
    asked = dict(parse_qsl(urlsplit(uri).query))
    assert (asked["redirect_uri"], asked["code_challenge_method"]) == (HERE + CALLBACK, "S256")
    page = await house.client.get(CALLBACK, params=idp(house).sign_in(uri))
    assert page.status_code == 200, page.text
    assert "You are grace@example.com" in page.text
    assert "form-action 'self' https://app.example" in page.headers["content-security-policy"]
    sent = form_of(idp(house).asked[-2])
    proof = base64.urlsafe_b64encode(hashlib.sha256(sent["code_verifier"].encode()).digest()).rstrip(b"=").decode()
    assert proof == idp(house).challenge
    tokens = await _tokens(house, page, query["client_id"])
    me = await house.ok("GET", "/v1/auth/me", tokens["access_token"])
    assert (me["tenant"], me["role"]) == (TENANT, "user")
    # A role that was changed here stays, whatever the provider is configured with; and there is one user.
    await house.ok("POST", f"/v1/users/{me['id']}", await house.token(), {"role": "developer"})
    page = await house.client.get(CALLBACK, params=idp(house).sign_in(await _left(house, query)))
    again = await _tokens(house, page, query["client_id"])
    assert page.status_code == 200
    assert (await house.ok("GET", "/v1/auth/me", again["access_token"])) == me | {"role": "developer"}
    exported = await house.ask("GET", f"/v1/accounts/exports?user={me['id']}", await house.token())
    assert f'"issuer":"{ISSUER}","subject":"s-1"' in exported.text
    assert (await house.told()).count("user.created") == 1
    assert (await house.form("/v1/auth/login")).status_code == 400
    for password in ("", PASSWORD):
        body = {"email": "grace@example.com", "password": password}
        assert (await house.ask("POST", "/v1/auth/login", body=body)).status_code in (400, 401)


async def test_a_device_is_connected_by_who_signed_in_by_a_provider(house: House):
    device = (await house.form("/oauth/device_authorization", client_id="cordee")).json()
    page = await house.client.get("/oauth/device", params={"user_code": device["user_code"]})
    link = re.search(r'<a href="([^"]+)">Sign in with', page.text)
    assert link is not None
    left = await house.client.get(unescape(link[1]))
    page = await house.client.get(CALLBACK, params=idp(house).sign_in(left.headers["location"]))
    assert (await house.form(ANSWER, ticket=_ticket(page), answer="allow")).status_code == 200
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": "cordee"}
    tokens = (await house.form("/oauth/token", **form, device_code=device["device_code"])).json()
    assert (await house.ok("GET", "/v1/auth/me", tokens["access_token"]))["role"] == "user"


async def test_a_person_who_is_back_may_say_no(house: House):
    page = await _back(house)
    denied = await house.form(ANSWER, ticket=_ticket(page), answer="deny")
    assert "error=access_denied" in denied.headers["location"]


@pytest.mark.parametrize(
    "wrong", ["none", "missing", "replayed", "late", "browser", "provider", "iss", "no iss", "error"]
)
async def test_who_comes_back_must_be_who_left(house: House, wrong: str):
    said = idp(house).sign_in(await _left(house))
    path, status = CALLBACK, 400
    match wrong:
        case "none":
            said["state"] = "x" * 43
        case "missing":
            del said["state"]
        case "replayed":
            assert (await house.client.get(path, params=said)).status_code == 200
        case "late":
            house.clock += 601
        case "browser":
            house.client.cookies.clear()
        case "provider":
            path, status = path.replace("idp", "other"), 404
        case "iss":
            said["iss"] = "https://evil.example"
        case "no iss":
            del said["iss"]
        case _:
            said, status = {"state": said["state"], "error": "access_denied", "iss": ISSUER}, 403
    before = idp(house).paths().count("/token")
    assert (await house.client.get(path, params=said)).status_code == status
    assert idp(house).paths().count("/token") == before
    assert (await house.told()).count("user.created") == (wrong == "replayed")


@pytest.mark.parametrize("wrong", ["ticket", "browser", "late", "twice", "state"])
async def test_an_answer_is_believed_once_from_the_browser_that_signed_in(house: House, wrong: str):
    left = idp(house).sign_in(await _left(house))
    page = await house.client.get(CALLBACK, params=left)
    ticket = _ticket(page)
    if wrong == "ticket":
        ticket = "x" * 43
    elif wrong == "browser":
        house.client.cookies.clear()
    elif wrong == "late":
        house.clock += 601
    elif wrong == "twice":
        await house.form(ANSWER, ticket=ticket, answer="allow")
    else:
        ticket = left["state"]
    answer = await house.form(ANSWER, ticket=ticket, answer="allow")
    assert (answer.status_code, "location" in answer.headers) == (400, False)


async def _refused(house: House, status: int = 400) -> None:
    page = await _back(house)
    assert (page.status_code, "ticket" in page.text) == (status, False), page.text
    assert "user.created" not in await house.told()


@pytest.mark.parametrize(
    "claims",
    [{"nonce": "another"}, {"nonce": None}, {"iss": "https://evil.example"}, {"iss": ISSUER + "/"}, {"aud": "another"},
     {"aud": [CLIENT, "another"]}, {"aud": [CLIENT], "azp": "another"}, {"exp": 1}, {"exp": None}, {"exp": "soon"}, {"iat": None},
     {"iat": 1_900_000_000}, {"nbf": 1_900_000_000}, {"sub": ""}, {"sub": None}, {"sub": 1}, {"sub": "s" * 256}],
)  # fmt: skip
async def test_an_identity_token_must_be_for_this_sign_in(house: House, claims: dict[str, Any]):
    idp(house).claims = claims
    await _refused(house)


async def test_a_token_that_another_key_signed_is_not_believed(house: House):
    double = idp(house)
    double.signer = ECKey.generate_key("P-256", {"kid": str(double.keys[0].kid)})
    await _refused(house)


async def test_a_token_without_a_signature_or_with_a_shared_key_is_not_believed(house: House):
    double = idp(house)
    uri = await _left(house)
    said = double.sign_in(uri)
    claims = {"iss": ISSUER, "aud": CLIENT, "sub": "s-1", "nonce": double.nonce, "iat": 1_800_000_000,
              "exp": 1_800_000_100, "email": "grace@example.com", "email_verified": True}  # fmt: skip
    double.token = by_hand({"alg": "none"}, claims)
    assert (await house.client.get(CALLBACK, params=said)).status_code == 400
    # The published key's own bytes as the secret of an HMAC, and a secret that is published.
    signer, published = double.keys[0], OctKey.generate_key(256, auto_kid=True)
    assert isinstance(signer, ECKey)
    double.keys = [signer, published]
    shared = ((signer, signer.as_pem(private=False)), (published, published.raw_value))
    for key, secret in shared:
        said = double.sign_in(await _left(house))
        double.token = by_hand({"alg": "HS256", "kid": key.kid}, claims | {"nonce": double.nonce}, hmac_with(secret))
        assert (await house.client.get(CALLBACK, params=said)).status_code == 400
    assert "user.created" not in await house.told()


@pytest.mark.parametrize("more", [{"typ": "at+jwt"}, {"crit": ["x"], "x": 1}, {"b64": False, "crit": ["b64"]}, None])
async def test_a_head_that_asks_for_more_is_not_believed(house: House, more: dict[str, Any] | None):
    double = idp(house)
    said = double.sign_in(await _left(house))
    claims = {"iss": ISSUER, "aud": CLIENT, "sub": "s-1", "nonce": double.nonce, "iat": int(house.clock),
              "exp": int(house.clock) + 100, "email": "grace@example.com", "email_verified": True}  # fmt: skip
    signer = double.keys[0]
    double.token = by_hand({"alg": "ES256", "kid": signer.kid} | (more or {}), claims, es256_with(signer))
    assert (await house.client.get(CALLBACK, params=said)).status_code == (200 if more is None else 400)


@pytest.mark.parametrize(
    ("claims", "more"),
    [({"email_verified": False}, {}), ({"email_verified": "true"}, {}), ({"email_verified": None}, {}), ({"email": None}, {}),
     ({"email": "no address"}, {}), ({"email": "grace@evil.example"}, {}), ({"email": "grace@example.com.evil.example"}, {}),
     ({"email": "grace@evil-example.com"}, {}), ({"email": OWNER}, {})],
)  # fmt: skip
async def test_only_verified_addresses_of_the_domains_that_nobody_has_are_let_in(
    house: House, claims: dict[str, Any], more: dict[str, Any]
):
    idp(house).claims = claims
    await _refused(house, 403)


async def test_a_user_of_that_address_is_taken_over_only_where_it_was_configured(tmp_path: Path, migrated: Path):
    double = Double(lambda: 1_800_000_000.0)
    double.claims = {"email": OWNER}
    async with relying(tmp_path, migrated, DatabaseSettings(), double.transport(), takes_over=True) as house:
        house.double = double  # type: ignore[attr-defined]
        query = await _query(house)
        page = await house.client.get(CALLBACK, params=double.sign_in(await _left(house, query)))
        tokens = await _tokens(house, page, query["client_id"])
        assert (await house.ok("GET", "/v1/auth/me", tokens["access_token"]))["role"] == "owner"
        assert await house.token(OWNER)  # the password goes on as well


async def test_another_tenants_user_of_that_address_is_never_taken_over(tmp_path: Path, migrated: Path):
    double = Double(lambda: 1_800_000_000.0)
    async with relying(tmp_path, migrated, DatabaseSettings(), double.transport(), takes_over=True) as house:
        house.double = double  # type: ignore[attr-defined]
        async with house.app.state.service.changing() as on:
            await people.add_tenant(on, Tenant("tenant_2", "Theirs", house.clock))
        await _password_user(house, "grace@example.com", "tenant_2")
        await _refused(house, 403)


async def test_who_was_switched_off_here_stays_out(house: House):
    page = await _back(house)
    await house.form(ANSWER, ticket=_ticket(page), answer="deny")
    users = (await house.ok("GET", "/v1/users", await house.token()))["data"]
    grace = next(user for user in users if user["email"] == "grace@example.com")
    waiting = _ticket(await _back(house))
    await house.ok("POST", f"/v1/users/{grace['id']}", await house.token(), {"is_active": False})
    assert (await house.form(ANSWER, ticket=waiting, answer="allow")).status_code == 403
    assert (await _back(house)).status_code == 403


async def test_keys_rotate_and_are_looked_for_once_in_a_while(house: House):
    double = idp(house)
    assert (await _back(house)).status_code == 200
    house.clock += 40
    double.keys = [RSAKey.generate_key(2048, {"alg": "RS256", "use": "sig"}, auto_kid=True), *double.keys]
    double.algorithm = "RS256"
    assert (await _back(house)).status_code == 200
    double.signer = RSAKey.generate_key(2048, {"kid": "unknown"})
    asked = double.paths().count("/keys")
    for _ in range(3):
        assert (await _back(house)).status_code == 400
    assert double.paths().count("/keys") == asked
    house.clock += 31
    assert (await _back(house)).status_code == 400
    assert double.paths().count("/keys") == asked + 1


async def test_a_short_rsa_key_is_none_and_ed25519_is_one(house: House):
    double = idp(house)
    double.keys, double.algorithm = [RSAKey.generate_key(1024, auto_kid=True)], "RS256"
    await _refused(house)
    house.clock += 31
    double.keys, double.algorithm = [OKPKey.generate_key("Ed25519", auto_kid=True)], "EdDSA"
    assert (await _back(house)).status_code == 200


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(500), httpx.Response(302, headers={"location": f"{ISSUER}/elsewhere"}), httpx.Response(200, content=b"<html>"),
     httpx.Response(200, content=b"[]"), httpx.Response(200, content=b'"' + b"x" * 300_000 + b'"'),
     httpx.Response(200, json={"issuer": "https://evil.example"}),
     httpx.Response(200, json={"issuer": ISSUER, "authorization_endpoint": "http://idp.example/a", "token_endpoint": f"{ISSUER}/t",
                               "jwks_uri": f"{ISSUER}/k"})],
)  # fmt: skip
async def test_a_provider_that_answers_something_else_is_away_and_left_alone(house: House, answer: httpx.Response):
    double = idp(house)
    double.answer = lambda _request: httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)
    query = await _query(house)
    for _ in range(3):
        left = await house.client.get(LEAVE, params=query)
        assert (left.status_code, left.headers["retry-after"]) == (503, "30")
    assert len(double.asked) == 1
    double.answer = None
    house.clock += 31
    assert (await house.client.get(LEAVE, params=query)).status_code == 303


async def test_a_refused_code_is_no_sign_in(house: House):
    double = idp(house)
    said = double.sign_in(await _left(house))
    double.answer = lambda _request: httpx.Response(400, json={"error": "invalid_grant"})
    assert (await house.client.get(CALLBACK, params=said)).status_code == 400


async def test_what_is_asked_is_checked_before_anybody_leaves(house: House):
    query = await _query(house)
    for wrong in ({"redirect_uri": "https://evil.example/"}, {"client_id": "app_x"}, {"user_code": "nonsense"}):
        answer = await house.client.get(LEAVE, params=query | wrong)
        assert (answer.status_code, "location" in answer.headers) == (404 if "user_code" in wrong else 400, False)
    assert idp(house).asked == []


async def test_there_is_a_most_of_sign_ins_under_way(house: House):
    query = await _query(house)
    service = house.app.state.service
    tokens = msgspec.structs.replace(service.settings.tokens, provider_waiting_max=2)
    house.app.state.service = dataclasses.replace(
        service, settings=msgspec.structs.replace(service.settings, tokens=tokens)
    )
    first = idp(house).sign_in(await _left(house, query))
    for _ in range(3):
        house.clock += 1
        last = await _left(house, query)
    assert (await house.client.get(CALLBACK, params=first)).status_code == 400
    assert (await house.client.get(CALLBACK, params=idp(house).sign_in(last))).status_code == 200


async def test_a_secret_is_shown_the_way_the_provider_takes_it(
    tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch
):
    for number, (methods, secret) in enumerate(((["client_secret_post"], "s:1"), (None, "s:1"), (None, ""))):
        monkeypatch.setenv("IDP_SECRET", secret)
        double = Double(lambda: 1_800_000_000.0)
        if methods:
            double.described = {"token_endpoint_auth_methods_supported": methods}
        where = relying(
            tmp_path / str(number), migrated, DatabaseSettings(), double.transport(), client_secret_env="IDP_SECRET"
        )
        async with where as house:
            query = await _query(house)
            if not secret:
                assert (await house.client.get(LEAVE, params=query)).status_code == 503
                continue
            said = double.sign_in(await _left(house, query))
            assert (await house.client.get(CALLBACK, params=said)).status_code == 200
            request = next(one for one in double.asked if one.url.path == "/token")
            if methods:
                assert form_of(request)["client_secret"] == "s:1"
            else:
                shown = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
                assert shown == f"{CLIENT}:s%3A1"
