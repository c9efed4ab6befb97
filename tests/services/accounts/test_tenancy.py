from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from cordee.services.accounts.membership import Person, found
from cordee.services.accounts.rules.rights import Role
from cordee.services.base.errors import Problem
from tests.services import on_both
from tests.services.accounts.conftest import OWNER, PASSWORD, STRANGER, House

pytestmark = pytest.mark.anyio
MISSING = "0" * 32


@on_both
async def test_another_tenants_objects_are_as_missing_as_missing_ones(house: House):
    owner, stranger = await house.token(), await house.token(STRANGER)
    user = await house.add(owner, "dev@example.com", "developer")
    application = await house.ok("POST", "/v1/applications", owner, {"name": "app", "scopes": ["inference"]})
    key = await house.ok("POST", "/v1/api_keys", owner, {"name": "key"})
    for kind, one in (("users", user), ("applications", application), ("api_keys", key)):
        prefix = one["id"].split("_")[0]
        for method, body in (("GET", None), ("POST", {"name": "mine"}), ("DELETE", None)):
            theirs = await house.ask(method, f"/v1/{kind}/{one['id']}", stranger, body)
            none = await house.ask(method, f"/v1/{kind}/{prefix}_{MISSING}", stranger, body)
            assert (theirs.status_code, none.status_code) == (404, 404), (method, kind, theirs.text)
            assert theirs.text.replace(one["id"], "") == none.text.replace(f"{prefix}_{MISSING}", "")
        listed = await house.ok("GET", f"/v1/{kind}", stranger)
        assert one["id"] not in [entry["id"] for entry in listed["data"]]
    given = await house.ask("POST", "/v1/api_keys", stranger, {"name": "x", "owner": user["id"]})
    assert given.status_code == 404
    tenant = (await house.ok("GET", "/v1/auth/me", owner))["tenant"]
    assert (await house.ask("GET", f"/v1/tenants/{tenant}", stranger)).status_code == 404
    assert (await house.ask("POST", f"/v1/tenants/{tenant}", stranger, {"name": "mine"})).status_code == 404


async def test_only_operators_see_and_limit_tenants(house: House):
    owner, stranger = await house.token(), await house.token(STRANGER)
    tenants = (await house.ok("GET", "/v1/tenants", owner))["data"]
    assert [one["name"] for one in tenants] == ["Elsewhere", "Operators"]
    assert (await house.ask("GET", "/v1/tenants", stranger)).status_code == 403
    path = f"/v1/tenants/{tenants[0]['id']}"
    limits = {"requests_per_minute": 60, "budgets": [{"period": "day", "tokens": 1000}]}
    assert (await house.ask("POST", path, stranger, {"limits": limits})).status_code == 403
    changed = await house.ok("POST", path, owner, {"limits": limits})
    assert changed["limits"]["budgets"] == [{"period": "day", "tokens": 1000, "money": None}]
    assert (await house.ok("POST", path, stranger, {"name": "Renamed"}))["limits"] == changed["limits"]


async def test_the_first_tenant_is_founded_once(house: House):
    with pytest.raises(Problem, match="There are tenants already"):
        await found(house.app.state.service, "Again", Person("x@example.com", "X", Role.OWNER, PASSWORD))


@on_both
async def test_an_address_belongs_to_one_user_of_the_installation(house: House):
    stranger = await house.token(STRANGER)
    answer = await house.ask("POST", "/v1/users", stranger, {"email": OWNER.upper(), "name": "A", "password": PASSWORD})
    assert (answer.status_code, answer.json()["error"]["param"]) == (409, "email")


async def test_nobody_rises_above_who_raises_them(house: House):
    owner = await house.token()
    ada = (await house.ok("GET", "/v1/auth/me", owner))["id"]
    other = await house.add(owner, "admin2@example.com", "admin")
    mine = await house.add(owner, "admin@example.com", "admin")
    admin = await house.token("admin@example.com")
    for path, body in (
        ("/v1/users", {"email": "x@example.com", "name": "X", "password": PASSWORD, "role": "admin"}),
        (f"/v1/users/{mine['id']}", {"role": "owner"}),
        (f"/v1/users/{other['id']}", {"password": "another long one"}),
        (f"/v1/users/{ada}", {"is_active": False}),
        ("/v1/api_keys", {"name": "k", "owner": ada, "scopes": ["users.write"]}),
    ):
        assert (await house.ask("POST", path, admin, body)).status_code == 403, (path, body)
    assert (await house.ask("DELETE", f"/v1/users/{ada}", admin)).status_code == 403
    assert await house.add(admin, "dev@example.com", "developer")


@on_both
async def test_a_tenant_keeps_an_owner(house: House):
    owner = await house.token()
    ada = (await house.ok("GET", "/v1/auth/me", owner))["id"]
    for body in ({"role": "admin"}, {"is_active": False}):
        assert (await house.ask("POST", f"/v1/users/{ada}", owner, body)).status_code == 409
    assert (await house.ask("DELETE", f"/v1/users/{ada}", owner)).status_code == 409
    await house.add(owner, "second@example.com", "owner")
    assert (await house.ok("POST", f"/v1/users/{ada}", owner, {"role": "admin"}))["role"] == "admin"


async def test_ones_own_password_needs_the_current_one_and_ends_other_sign_ins(house: House):
    owner = await house.token()
    ada = (await house.ok("GET", "/v1/auth/me", owner))["id"]
    changed = {"password": "a new long password"}
    for more in ({}, {"current_password": "wrong"}, {"role": "owner"}):
        assert (await house.ask("POST", f"/v1/users/{ada}", owner, changed | more)).status_code == 403
    await house.ok("POST", f"/v1/users/{ada}", owner, changed | {"current_password": PASSWORD})
    assert (await house.ask("GET", "/v1/auth/me", owner)).status_code == 401
    assert await house.tokens(OWNER, "a new long password")


async def test_a_key_is_shown_once_and_holds_what_was_given(house: House):
    owner = await house.token()
    made = await house.ok(
        "POST",
        "/v1/api_keys",
        owner,
        {"name": "ci", "scopes": ["inference", "keys.read"], "expires_at": house.clock + 60},
    )
    assert made["key"].startswith("sk-cordee-")
    assert made["key"].endswith(made["hint"])
    shown = await house.ok("GET", f"/v1/api_keys/{made['id']}", owner)
    assert shown["key"] is None
    me = await house.ok("GET", "/v1/auth/me", made["key"])
    assert me["scopes"] == ["inference", "keys.read"]
    assert (await house.ok("GET", f"/v1/api_keys/{made['id']}", owner))["last_used_at"] == int(house.clock)
    assert (await house.ask("GET", "/v1/users", made["key"])).status_code == 403
    house.clock += 61
    assert (await house.ask("GET", "/v1/auth/me", made["key"])).status_code == 401


@on_both
async def test_a_key_ends_when_it_is_revoked_or_its_owner_goes(house: House):
    owner = await house.token()
    user = await house.add(owner, "u@example.com", "user")
    token = await house.token("u@example.com")
    first, second = [(await house.ok("POST", "/v1/api_keys", token, {"name": "k"})) for _ in range(2)]
    await house.ok("DELETE", f"/v1/api_keys/{first['id']}", token)
    assert (await house.ask("GET", "/v1/auth/me", first["key"])).status_code == 401
    assert await house.ok("GET", "/v1/auth/me", second["key"])
    await house.ok("DELETE", f"/v1/users/{user['id']}", owner)
    for shown in (second["key"], token):
        assert (await house.ask("GET", "/v1/auth/me", shown)).status_code == 401


async def test_scopes_that_one_does_not_hold_cannot_be_given(house: House):
    owner = await house.token()
    await house.add(owner, "u@example.com", "developer")
    token = await house.token("u@example.com")
    for path in ("/v1/api_keys", "/v1/applications"):
        answer = await house.ask("POST", path, token, {"name": "k", "scopes": ["users.write"]})
        assert (answer.status_code, answer.json()["error"]["param"]) == (403, "scopes")
    key = await house.ok("POST", "/v1/api_keys", token, {"name": "k", "scopes": ["keys.write"]})
    assert (
        await house.ask("POST", "/v1/api_keys", key["key"], {"name": "k", "scopes": ["inference"]})
    ).status_code == 403
    assert (await house.ask("POST", f"/v1/api_keys/{key['id']}", token, {"limits": {}})).status_code == 403


@on_both
async def test_how_a_key_stands_is_said_by_who_manages_keys_and_never_beyond_what_its_tenant_may(house: House):
    operator, owner = await house.token(), await house.token(STRANGER)
    await house.add(owner, "u@example.com", "user")
    user = await house.token("u@example.com")
    key = await house.ok("POST", "/v1/api_keys", user, {"name": "k", "scopes": ["inference"], "priority_max": "batch"})
    assert (key["priority"], key["priority_max"]) == ("batch", "batch")
    assert (key["local_only"], key["sensitivity"]) == (False, "internal")
    path = f"/v1/api_keys/{key['id']}"
    assert (await house.ask("POST", path, user, {"priority_max": "interactive"})).status_code == 403
    assert (await house.ok("POST", path, owner, {"priority_max": "standard"}))["priority"] == "batch"
    upside_down = await house.ask("POST", path, owner, {"priority": "interactive"})
    assert (upside_down.status_code, upside_down.json()["error"]["param"]) == (400, "priority")
    bounds = {"priority_max": "standard", "local_only": True, "sensitivity": "internal"}
    mine = f"/v1/tenants/{key['tenant']}"
    for param, value in bounds.items():
        assert (await house.ask("POST", mine, owner, {param: value})).status_code == 403
    shown = await house.ok("POST", mine, operator, bounds)
    assert {name: shown[name] for name in bounds} == bounds
    beyond = {"priority_max": "interactive", "local_only": False, "sensitivity": "public"}
    for param, value in beyond.items():
        for where, body in ((path, {}), ("/v1/api_keys", {"name": "k"})):
            refused = await house.ask("POST", where, owner, {**body, param: value})
            assert (refused.status_code, refused.json()["error"]["param"]) == (403, param)
    assert (await house.ok("POST", path, owner, {"sensitivity": "confidential"}))["sensitivity"] == "confidential"
    assert (await house.ok("GET", path, user))["priority_max"] == "standard"


async def test_a_key_makes_no_key_that_stands_above_it(house: House):
    owner = await house.token()
    said = {"name": "k", "scopes": ["inference", "keys.write"], "priority_max": "batch", "local_only": True}
    key = (await house.ok("POST", "/v1/api_keys", owner, said))["key"]
    made = await house.ok("POST", "/v1/api_keys", key, {"name": "k"})
    assert (made["priority"], made["priority_max"], made["local_only"]) == ("batch", "batch", True)
    for param, value in {"priority_max": "standard", "local_only": False, "sensitivity": "public"}.items():
        refused = await house.ask("POST", "/v1/api_keys", key, {"name": "k", param: value})
        assert (refused.status_code, refused.json()["error"]["param"]) == (403, param)


async def test_there_is_a_most_of_keys(house: House):
    owner = await house.token()
    for _ in range(5):
        await house.ok("POST", "/v1/api_keys", owner, {"name": "k"})
    assert (await house.ask("POST", "/v1/api_keys", owner, {"name": "k"})).status_code == 409


@on_both
async def test_pages_follow_each_other_without_gap_or_repeat(house: House):
    owner = await house.token()
    made = [(await house.ok("POST", "/v1/api_keys", owner, {"name": str(n)}))["id"] for n in range(5)]
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = await house.ok("GET", "/v1/api_keys", owner, params={"limit": "2", "order": "asc", **after})
        seen += [one["id"] for one in page["data"]]
        assert (page["first_id"], page["last_id"]) == (page["data"][0]["id"], page["data"][-1]["id"])
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert seen == sorted(made)
    assert [one["id"] for one in (await house.ok("GET", "/v1/api_keys", owner))["data"]] == seen[::-1]


BAD: list[tuple[str, object, str | None]] = [
    ("/v1/users", {"email": "x@y.example", "name": "X", "password": "short"}, "password"),
    ("/v1/users", {"email": "xyz", "name": "X", "password": PASSWORD}, "email"),
    ("/v1/users", {"email": "x@y.example", "name": "a\x00b", "password": PASSWORD}, "name"),
    ("/v1/users", {"email": "x@y.example", "name": "X", "password": PASSWORD, "tenant": "tenant_1"}, "tenant"),
    ("/v1/users", {"email": "x@y.example", "name": "X", "password": PASSWORD, "role": "god"}, "role"),
    ("/v1/users", {"email": "x@y.example", "name": 7, "password": PASSWORD}, "name"),
    ("/v1/users", {"name": "X", "password": PASSWORD}, "email"),
    ("/v1/api_keys", {"name": "k", "scopes": ["everything"]}, "scopes"),
    ("/v1/api_keys", {"name": "k", "expires_at": 1}, "expires_at"),
    ("/v1/api_keys", {"name": "k", "limits": {"concurrent_calls": 0}}, "limits.concurrent_calls"),
    ("/v1/api_keys", {"name": "k", "limits": {"concurrent_calls": True}}, "limits.concurrent_calls"),
    ("/v1/api_keys", b'{"name": "k", "expires_at": NaN}', None),
    ("/v1/api_keys", {"name": "k" * 200}, "name"),
    ("/v1/applications", {"name": "a", "scopes": [], "redirect_uris": ["http://evil.example/"]}, "redirect_uris.0"),
    ("/v1/users", b"{", None),
    ("/v1/users", b"\xff", None),
    ("/v1/users", b"[" * 10_000, None),
]


async def test_bad_bodies_are_a_400_that_names_the_parameter(house: House):
    owner = await house.token()
    for path, body, param in BAD:
        answer = await house.ask("POST", path, owner, body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), (body, answer.text)
        assert PASSWORD not in answer.text


async def test_bad_queries_are_a_400_and_ids_that_can_be_none_a_404(house: House):
    owner = await house.token()
    for path, param in (("/v1/users?limit=0", "limit"), ("/v1/users?limit=101", "limit"), ("/v1/users?after=%00", "after"),
                        ("/v1/users?order=x", "order")):  # fmt: skip
        answer = await house.ask("GET", path, owner)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), path
    unknown = "user_" + "0" * 32
    never_was = (await house.ask("GET", f"/v1/users/{unknown}", owner)).json()["error"]
    for path, name in (("%00", "\0"), ("'--", "'--")):
        answer = await house.ask("GET", f"/v1/users/{path}", owner)
        told = {**never_was, "message": never_was["message"].replace(unknown, name)}
        assert (answer.status_code, answer.json()["error"]) == (404, told)
    assert "There is no API key x." in (await house.ask("GET", "/v1/api_keys/x", owner)).text


async def test_a_body_that_is_too_large_is_refused(house: House):
    answer = await house.ask("POST", "/v1/auth/login", body=b'{"email": "' + b"x" * 70_000 + b'"}')
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "invalid_request_error"

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    streamed = await house.client.post(
        "/v1/auth/login", content=endless(), headers={"content-type": "application/json"}
    )
    assert (streamed.status_code, streamed.json()["error"]["type"]) == (413, "invalid_request_error")


async def test_no_event_holds_a_secret(house: House):
    owner = await house.token()
    key = await house.ok("POST", "/v1/api_keys", owner, {"name": "k"})
    await house.told()
    said = "".join(event.data for event in house.events)
    for secret in (PASSWORD, key["key"], owner):
        assert secret not in said


async def test_what_is_said_all_the_same_is_refused_by_name_and_changes_nothing(house: House):
    token, other = await house.token(STRANGER), await house.token()
    me = await house.ok("GET", "/v1/auth/me", token)
    key = await house.ok("POST", "/v1/api_keys", token, {"name": "k"})
    theirs = (await house.ok("GET", "/v1/auth/me", other))["tenant"]
    before = [
        await house.ok("GET", path, token) for path in (f"/v1/tenants/{me['tenant']}", f"/v1/api_keys/{key['id']}")
    ]
    said = {
        "tenant": theirs, "tenant_id": theirs, "is_operator": True, "is_admin": True, "quota": 1, "allowances": {}, "bounds": {},
        "standing": {}, "digest": "0" * 64, "created_at": 1, "id": "key_1", "object": "x", "__proto__": {}, "last_used_at": 1,
    }  # fmt: skip
    person = {"email": "n@example.com", "name": "n", "password": "correct horse"}
    for path, body in (
        (f"/v1/tenants/{me['tenant']}", {"name": "n"}), ("/v1/users", person), (f"/v1/users/{me['id']}", {"name": "n"}),
        ("/v1/applications", {"name": "n", "scopes": []}), ("/v1/api_keys", {"name": "n"}), (f"/v1/api_keys/{key['id']}", {"name": "n"}),
    ):  # fmt: skip
        for name, value in said.items():
            answer = await house.ask("POST", path, token, {**body, name: value})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, name), path
    for name in ("role", "is_active"):
        answer = await house.ask("POST", f"/v1/api_keys/{key['id']}", token, {name: "owner"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
    after = [
        await house.ok("GET", path, token) for path in (f"/v1/tenants/{me['tenant']}", f"/v1/api_keys/{key['id']}")
    ]
    assert after == before
    assert (await house.ok("GET", "/v1/users", token))["data"] == [
        await house.ok("GET", f"/v1/users/{me['id']}", token)
    ]
