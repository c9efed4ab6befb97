from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cordee.services.accounts import erasure
from cordee.wire import vouch
from cordee.wire.vouch import TO_SERVICES, Vouched
from tests.services import on_both
from tests.services.accounts.conftest import OWNER, SECRET, STRANGER, House
from tests.services.accounts.test_feed import Gateway

pytestmark = pytest.mark.anyio
PATH = "/v1/accounts/erasures"


async def erase(house: House, scope: str = "system", **body: str) -> Any:
    header = vouch.vouch(Vouched("", "batches", "", frozenset({scope})), TO_SERVICES, SECRET, house.clock)
    return await house.client.post(PATH, json=body, headers={vouch.HEADER: header})


@on_both
async def test_a_tenant_goes_piece_by_piece_and_again_does_nothing(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(erasure, "PIECE", 1)
    stranger = await house.token(STRANGER)
    tenant = (await house.ok("GET", "/v1/auth/me", stranger))["tenant"]
    for number in range(2):
        await house.add(stranger, f"u{number}@elsewhere.example")
    key = await house.ok("POST", "/v1/api_keys", stranger, {"name": "k"})
    gateway = Gateway(house, tmp_path)
    await gateway.follow()
    assert gateway.credentials.identify(key["key"].encode()) is not None
    answers = [(await erase(house, tenant=tenant)).json()["done"] for _ in range(4)]
    assert answers == [False, False, True, True]
    assert (await erase(house, tenant="of the key file")).json() == {"done": True}
    assert (await house.ask("GET", "/v1/auth/me", stranger)).status_code == 401
    await gateway.follow()
    assert gateway.credentials.identify(key["key"].encode()) is None
    assert gateway.credentials.identify(stranger.encode()) is None
    assert await house.token()


async def test_the_tenant_that_runs_the_installation_stays(house: House):
    tenant = (await house.ok("GET", "/v1/auth/me", await house.token()))["tenant"]
    assert (await erase(house, tenant=tenant)).status_code == 409


async def test_only_the_installation_erases(house: House):
    owner = await house.token()
    me = await house.ok("GET", "/v1/auth/me", owner)
    assert (await house.ask("POST", PATH, owner, {"tenant": me["tenant"]})).status_code == 401
    assert (await erase(house, "admin", tenant=me["tenant"])).status_code == 403
    user = await house.add(owner, "dev@example.com")
    other = await house.ok("GET", "/v1/auth/me", await house.token(STRANGER))
    assert (await erase(house, tenant=other["tenant"], user=user["id"])).json() == {"done": True}
    assert (await house.ask("GET", f"/v1/users/{user['id']}", owner)).status_code == 200, "of another tenant"
    assert (await erase(house, tenant=me["tenant"], user=user["id"])).json() == {"done": True}
    assert (await house.ask("GET", f"/v1/users/{user['id']}", owner)).status_code == 404


async def test_owners_and_admins_are_not_erased_by_whoever_may_erase_users(house: House):
    owner = await house.token()
    me = await house.ok("GET", "/v1/auth/me", owner)
    admin = await house.add(owner, "admin@example.com", "admin")
    for user in (me["id"], admin["id"]):
        answer = await erase(house, tenant=me["tenant"], user=user)
        assert (answer.status_code, "lower one first" in answer.text) == (409, True)
    await house.ok("POST", f"/v1/users/{admin['id']}", owner, {"role": "viewer"})
    assert (await erase(house, tenant=me["tenant"], user=admin["id"])).json() == {"done": True}


async def test_an_application_is_erased_like_a_user(house: House):
    owner = await house.token()
    me = await house.ok("GET", "/v1/auth/me", owner)
    made = await house.ok("POST", "/v1/applications", owner, {"name": "a", "scopes": ["inference"]})
    assert (await erase(house, tenant=me["tenant"], user=made["id"])).json() == {"done": True}
    assert (await house.ask("GET", f"/v1/applications/{made['id']}", owner)).status_code == 404
    assert "application.removed" in await house.told()


async def test_one_has_what_is_held_of_oneself_and_nobody_elses(house: House):
    owner, stranger = await house.token(), await house.token(STRANGER)
    key = await house.ok("POST", "/v1/api_keys", owner, {"name": "k"})
    me = (await house.ok("GET", "/v1/auth/me", owner))["id"]
    answer = await house.ask("GET", f"/v1/accounts/exports?user={me}", owner)
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["object"] for line in lines[:3]] == ["user", "api_key", "sign_in"]
    assert (lines[0]["email"], lines[1]["id"]) == (OWNER, key["id"])
    assert key["key"] not in answer.text
    assert "$argon2" not in answer.text
    assert (await house.ask("GET", f"/v1/accounts/exports?user={me}", stranger)).status_code == 404
    await house.add(owner, "dev@example.com")
    dev = await house.token("dev@example.com")
    assert (await house.ask("GET", f"/v1/accounts/exports?user={me}", dev)).status_code == 403
