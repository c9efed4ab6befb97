from __future__ import annotations

import asyncio
import base64
import json

import httpx
import pytest

from cordee.wire.vouch import HEADER, TO_GATEWAYS, TO_SERVICES, Vouched, vouch
from tests.services import on_both
from tests.services.accounts.conftest import OWNER, PASSWORD, SECRET, STRANGER, House

pytestmark = pytest.mark.anyio


async def test_signing_in_gives_tokens_that_say_who(house: House):
    tokens = await house.tokens()
    assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 600)
    me = await house.ok("GET", "/v1/auth/me", tokens["access_token"])
    assert me["role"] == "owner"
    assert "tenants.write" in me["scopes"]
    assert "user.signed_in" in await house.told()


async def test_a_wrong_password_and_an_unknown_address_are_answered_alike(house: House):
    answers = [
        await house.ask("POST", "/v1/auth/login", body={"email": email, "password": "wrong password"})
        for email in (OWNER, "nobody@example.com", "no address at all")
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.parametrize("email", [OWNER, "nobody@example.com"])
@on_both
async def test_wrong_passwords_shut_an_address_for_longer_and_longer(house: House, email: str):
    async def wrong() -> tuple[int, str | None]:
        answer = await house.ask("POST", "/v1/auth/login", body={"email": email, "password": "wrong password"})
        return answer.status_code, answer.headers.get("retry-after")

    assert [await wrong() for _ in range(7)] == [(401, None)] * 6 + [(429, "1")]
    house.clock += 1.5
    assert [await wrong() for _ in range(2)] == [(401, None), (429, "2")]
    house.clock += 2.5
    right = await house.ask("POST", "/v1/auth/login", body={"email": email, "password": PASSWORD})
    if email == OWNER:
        assert right.status_code == 200
        assert [await wrong() for _ in range(5)] == [(401, None)] * 5
        assert (await house.told()).count("user.locked_out") == 2


@on_both
async def test_many_guesses_at_once_are_not_all_free(house: House):
    answers = await asyncio.gather(
        *(house.ask("POST", "/v1/auth/login", body={"email": OWNER, "password": "wrong password"}) for _ in range(20))
    )
    assert [answer.status_code for answer in answers].count(401) == 6


@on_both
async def test_a_refresh_token_works_once_and_a_second_use_ends_the_family(house: House):
    first = await house.tokens()
    second = await house.ok("POST", "/v1/auth/refresh", body={"refresh_token": first["refresh_token"]})
    assert await house.ok("GET", "/v1/auth/me", second["access_token"])
    again = await house.ask("POST", "/v1/auth/refresh", body={"refresh_token": first["refresh_token"]})
    assert again.status_code == 401
    for token in (first, second):
        assert (await house.ask("GET", "/v1/auth/me", token["access_token"])).status_code == 401
    last = await house.ask("POST", "/v1/auth/refresh", body={"refresh_token": second["refresh_token"]})
    assert last.status_code == 401
    assert "family.reused" in await house.told()


@on_both
async def test_of_two_at_once_with_one_refresh_token_at_most_one_is_served(house: House):
    shown = {"refresh_token": (await house.tokens())["refresh_token"]}
    answers = await asyncio.gather(*(house.ask("POST", "/v1/auth/refresh", body=shown) for _ in range(4)))
    assert [answer.status_code for answer in answers].count(200) == 1


async def test_tokens_end_by_themselves(house: House):
    tokens = await house.tokens()
    house.clock += 601
    assert (await house.ask("GET", "/v1/auth/me", tokens["access_token"])).status_code == 401
    house.clock += 31 * 86_400
    assert (
        await house.ask("POST", "/v1/auth/refresh", body={"refresh_token": tokens["refresh_token"]})
    ).status_code == 401


async def test_signing_out_ends_both_tokens_and_no_others(house: House):
    mine, other = await house.tokens(), await house.tokens()
    await house.ok("POST", "/v1/auth/logout", mine["access_token"])
    assert (await house.ask("GET", "/v1/auth/me", mine["access_token"])).status_code == 401
    assert (
        await house.ask("POST", "/v1/auth/refresh", body={"refresh_token": mine["refresh_token"]})
    ).status_code == 401
    assert await house.ok("GET", "/v1/auth/me", other["access_token"])


async def test_a_person_whom_a_gateway_vouches_for_is_told_who_they_are_and_may_nothing_else_here(house: House):
    owner = await house.token()
    user = await house.add(owner, "dev@example.com", "viewer")
    said = Vouched(user["tenant"], user["id"], user["id"], frozenset({"chats.read", "users.write"}))

    async def me(of: Vouched = said, aim: str = TO_SERVICES, secret: bytes = SECRET, **more: str) -> httpx.Response:
        return await house.client.get("/v1/auth/me", headers={HEADER: vouch(of, aim, secret, house.clock), **more})

    answer = await me()
    assert (answer.status_code, answer.json()["id"], answer.json()["scopes"]) == (200, user["id"], ["chats.read"])
    key = await house.ok("POST", "/v1/api_keys", owner, {"name": "k"})
    of_key = Vouched(key["tenant"], key["id"], key["owner"], frozenset({"chats.read"}))
    elsewhere = Vouched("tenant_of_another", user["id"], user["id"], said.scopes)
    for refused in (me(aim=TO_GATEWAYS), me(secret=b"x" * 32), me(of_key), me(elsewhere), me(Authorization="Bearer x")):
        assert (await refused).status_code == 401
    for method, path in (("GET", "/v1/users"), ("GET", "/v1/api_keys"), ("POST", "/v1/auth/logout")):
        headers = {HEADER: vouch(said, TO_SERVICES, SECRET, house.clock)}
        assert (await house.client.request(method, path, headers=headers)).status_code == 401
    await house.ok("POST", f"/v1/users/{user['id']}", owner, {"is_active": False})
    assert (await me()).status_code == 401


async def test_a_demoted_or_switched_off_user_loses_it_at_once(house: House):
    owner = await house.token()
    user = await house.add(owner, "dev@example.com", "developer")
    token = await house.token("dev@example.com")
    assert (await house.ask("GET", "/v1/users", token)).status_code == 200
    await house.ok("POST", f"/v1/users/{user['id']}", owner, {"role": "viewer"})
    assert (await house.ask("GET", "/v1/users", token)).status_code == 403
    await house.ok("POST", f"/v1/users/{user['id']}", owner, {"is_active": False})
    assert (await house.ask("GET", "/v1/auth/me", token)).status_code == 401
    answer = await house.ask("POST", "/v1/auth/login", body={"email": "dev@example.com", "password": PASSWORD})
    assert answer.status_code == 401


async def test_keys_are_rotated_with_an_overlap(house: House):
    (first,) = (await house.ok("GET", "/.well-known/jwks.json"))["keys"]
    assert first["alg"] == "EdDSA"
    assert "d" not in first
    tokens = house.settings.tokens
    house.clock += tokens.key_signs_s - tokens.key_published_s + 1
    both = (await house.ok("GET", "/.well-known/jwks.json"))["keys"]
    assert len(both) == 2
    old = await house.token()
    assert json.loads(_decoded(old, 0))["kid"] == first["kid"]
    house.clock += tokens.key_published_s
    new = await house.token(STRANGER)
    assert json.loads(_decoded(new, 0))["kid"] != first["kid"]
    house.clock += tokens.key_published_s + tokens.access_s + 31
    assert first["kid"] not in [key["kid"] for key in (await house.ok("GET", "/.well-known/jwks.json"))["keys"]]


def _decoded(token: str, part: int) -> bytes:
    text = token.split(".")[part]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def test_forged_tokens_are_not_believed(house: House):
    good = await house.token()
    header, claims = json.loads(_decoded(good, 0)), json.loads(_decoded(good, 1))
    signature = good.split(".")[2]
    forged = [f"{_encoded(header | {'alg': alg})}.{_encoded(claims)}." for alg in ("none", "None", "nOnE")]
    forged += [f"{_encoded(header | extra)}.{_encoded(claims)}.{signature}" for extra in (
        {"alg": "HS256"}, {"alg": "Ed25519"}, {"kid": "../../dev/null"}, {"kid": "' OR 1=1 --"}, {"kid": "https://evil.example"},
        {"typ": "JWT"}, {"crit": ["x"], "x": 1}, {"jku": "https://evil.example"}, {"jwk": {"kty": "OKP"}}, {"kid": ["a"]}, {"b64": False},
    )]  # fmt: skip
    forged += [
        f"{_encoded(header)}.{_encoded(claims | {'tenant': 'tenant_x'})}.{signature}",
        good[:-6],
        good + "x",
        "a.b.c",
        "....",
        "é",
    ]
    for token in forged:
        answer = await house.client.get("/v1/auth/me", headers={b"authorization": f"Bearer {token}".encode()})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key"), token


async def test_what_is_no_token_at_all_is_refused_alike(house: House):
    for value in (
        "",
        "Bearer",
        "Bearer ",
        "Basic x",
        "Bearer sk-cordee-" + "x" * 43,
        "Bearer sk-cordee-' OR 1=1",
        "Bearer " + "x" * 9999,
    ):
        answer = await house.client.get("/v1/auth/me", headers={"authorization": value})
        assert answer.status_code == 401
        assert len(answer.content) < 1024
