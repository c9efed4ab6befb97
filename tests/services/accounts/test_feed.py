"""What gateways are told of accounts, and what they make of it: the pages of the real service, read as a gateway reads them."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from sqlalchemy import update

from cordee.adapters.credentials import Credentials
from cordee.adapters.credentials_feed import FeedRules, Follower
from cordee.adapters.keys import FileDirectory
from cordee.domain.call import Priority, Sensitivity
from cordee.domain.caller import EVERY_SCOPE, USER_SCOPES, Allowances, Budget, Period
from cordee.services.accounts.app import forget_expired
from cordee.services.accounts.rules.rights import Role, scopes_of
from cordee.services.accounts.store import changes
from cordee.services.accounts.tables import families
from cordee.wire import credentials, vouch
from cordee.wire.credentials import Page
from cordee.wire.vouch import TO_GATEWAYS, TO_SERVICES, Vouched
from tests.services import on_both
from tests.services.accounts.conftest import OWNER, PASSWORD, SECRET, STRANGER, House

pytestmark = pytest.mark.anyio
RULES = FeedRules(25.0, 10.0, 1.0, 1 << 20)
SYSTEM = Vouched("", "gateway", "", frozenset({"system"}))


class Gateway:
    """What a gateway knows, fed by hand."""

    def __init__(self, house: House, data: Path) -> None:
        self.house = house
        self.credentials = Credentials(FileDirectory(data, {}), 64, lambda: house.clock)
        self.follower = Follower(self.credentials, ("unix:/nowhere",), SECRET, data, RULES, lambda: house.clock)
        self.restarts = 0

    async def follow(self) -> None:
        while True:
            known = self.follower.learning
            page = await pages(self.house, known.epoch, known.revision, known.since)
            self.restarts += page.restarts
            self.follower.take(page)
            if not page.has_more:
                return


async def ask(house: House, header: str | None, **query: Any) -> Any:
    headers = {} if header is None else {vouch.HEADER: header}
    return await house.client.get(credentials.PATH, params=query, headers=headers)


async def pages(
    house: House, epoch: str = "", after: int = 0, since: int = 0, wait_s: float = 0.0, form: int | None = None
) -> Page:
    """`form` None: the one of today."""
    header = vouch.vouch(SYSTEM, TO_SERVICES, SECRET, house.clock)
    asked = {"epoch": epoch, "after": after, "since": since, "wait_s": wait_s}
    answer = await ask(house, header, **asked, **({"format": credentials.FORMAT} if form is None else {"format": form}))
    assert answer.status_code == 200, answer.text
    assert credentials.is_sealed(answer.content, answer.headers[credentials.SEAL_HEADER], SECRET)
    return credentials.decode(answer.content)


@pytest.fixture
async def gateway(house: House, tmp_path: Path) -> Gateway:
    made = Gateway(house, tmp_path)
    await made.follow()
    return made


def test_a_key_of_the_key_file_may_what_the_role_user_may_and_an_admin_key_everything():
    assert scopes_of(Role.USER, is_operator=False) == USER_SCOPES
    assert scopes_of(Role.OWNER, is_operator=True) == EVERY_SCOPE


@on_both
async def test_a_gateway_knows_keys_and_tokens_and_their_limits(house: House, gateway: Gateway):
    owner = await house.token()
    key = await house.ok(
        "POST", "/v1/api_keys", owner, {"name": "k", "scopes": ["inference"], "limits": {"requests_per_minute": 7}}
    )
    await gateway.follow()
    caller = gateway.credentials.identify(key["key"].encode())
    assert caller is not None
    assert (caller.key_id, caller.tenant, caller.subject) == (key["id"], key["tenant"], key["owner"])
    assert (caller.scopes, caller.allowances) == (frozenset({"inference"}), Allowances(7))
    of_token = gateway.credentials.identify(owner.encode())
    assert of_token is not None
    assert (of_token.key_id, of_token.subject, "inference" in of_token.scopes) == (key["owner"], key["owner"], True)
    assert gateway.credentials.holder(key["id"]) == (caller, caller.grant)


@on_both
async def test_a_key_ends_with_itself_with_its_owner_and_with_their_tenant(house: House, gateway: Gateway):
    owner = await house.token()
    user = await house.add(owner, "dev@example.com")
    kept, revoked = [
        await house.ok("POST", "/v1/api_keys", owner, {"name": "k", "owner": user["id"]}) for _ in range(2)
    ]
    stranger = await house.ok("POST", "/v1/api_keys", await house.token(STRANGER), {"name": "k"})
    await gateway.follow()
    callers = [gateway.credentials.identify(key["key"].encode()) for key in (kept, revoked, stranger)]
    assert all(callers)
    assert gateway.credentials.refresh()
    await house.ok("DELETE", f"/v1/api_keys/{revoked['id']}", owner)
    await gateway.follow()
    assert gateway.credentials.identify(revoked["key"].encode()) is None
    assert gateway.credentials.still(callers[1]) is None  # type: ignore[arg-type]
    assert gateway.credentials.still(callers[0]) == callers[0]  # type: ignore[arg-type]
    assert gateway.credentials.refresh()
    assert not gateway.credentials.refresh()
    await house.ok("POST", f"/v1/users/{user['id']}", owner, {"is_active": False})
    await gateway.follow()
    assert gateway.credentials.identify(kept["key"].encode()) is None
    await house.ok("POST", f"/v1/users/{user['id']}", owner, {"is_active": True})
    await gateway.follow()
    assert gateway.credentials.identify(kept["key"].encode()) is not None
    await house.ok("DELETE", f"/v1/users/{user['id']}", owner)
    await gateway.follow()
    assert gateway.credentials.identify(kept["key"].encode()) is None
    assert gateway.credentials.holder(user["id"]) is None
    assert len(gateway.credentials.known) == 1
    assert gateway.credentials.identify(stranger["key"].encode()) is not None


@on_both
async def test_a_signing_in_that_ends_takes_its_tokens_along_and_no_others(house: House, gateway: Gateway):
    first, second = await house.token(), await house.token()
    callers = [gateway.credentials.identify(token.encode()) for token in (first, second)]
    assert all(callers)
    await house.ok("POST", "/v1/auth/logout", first)
    await gateway.follow()
    assert gateway.credentials.identify(first.encode()) is None
    assert gateway.credentials.still(callers[0]) is None  # type: ignore[arg-type]
    assert gateway.credentials.identify(second.encode()) is not None
    me = await house.ok("GET", "/v1/auth/me", second)
    change = {"password": "another horse", "current_password": PASSWORD}
    before = gateway.credentials.holder(me["id"])
    await house.ok("POST", f"/v1/users/{me['id']}", second, change)
    await gateway.follow()
    assert gateway.credentials.identify(second.encode()) is None
    after = gateway.credentials.holder(me["id"])
    assert before is not None
    assert after is not None
    assert before[1] != after[1], "a browser's session that began with the old password holds no more"


@on_both
async def test_a_sign_in_that_was_ended_is_told_for_as_long_as_a_browsers_session_of_it_could_last(
    house: House, gateway: Gateway, tmp_path: Path
):
    token, began_s = await house.token(), house.clock
    me = await house.ok("GET", "/v1/auth/me", token)
    await gateway.follow()
    caller = gateway.credentials.identify(token.encode())
    assert caller is not None
    of = gateway.credentials.sign_in(token.encode(), caller.scopes, began_s)
    assert of is not None
    assert (of.scopes, of.until_s) == (caller.scopes, began_s + house.settings.feed.ended_kept_s)
    stands = gateway.credentials.signed_in(me["id"], of, began_s)
    assert stands is not None
    assert stands[0] == caller
    await house.ok("POST", "/v1/auth/logout", token)
    await gateway.follow()
    assert gateway.credentials.signed_in(me["id"], of, began_s) is None
    service = house.app.state.service
    async with service.changing() as on:
        await on.execute(update(families).values(expires_at=house.clock + 60))
    for passed_s in (
        3600.0,
        of.until_s - began_s - 3601.0,
    ):  # long after its tokens, and with a family that is over as well
        house.clock += passed_s
        await forget_expired(service)
        fresh = Gateway(house, tmp_path)
        await fresh.follow()
        assert fresh.credentials.known.has_ended(of.id)
        assert fresh.credentials.signed_in(me["id"], of, began_s) is None
    house.clock += 3 * house.settings.tokens.access_s
    await forget_expired(service)
    fresh = Gateway(house, tmp_path)
    await fresh.follow()
    assert not fresh.credentials.known.has_ended(of.id), "nobody has to know any more"
    assert fresh.credentials.signed_in(me["id"], of, began_s) is None


async def test_a_user_who_was_demoted_has_only_what_is_left(house: House, gateway: Gateway):
    owner = await house.token()
    user = await house.add(owner, "dev@example.com", "developer")
    token = await house.token("dev@example.com")
    await gateway.follow()
    was = gateway.credentials.identify(token.encode())
    assert was is not None
    await house.ok("POST", f"/v1/users/{user['id']}", owner, {"role": "viewer"})
    await gateway.follow()
    now = gateway.credentials.identify(token.encode())
    assert now is not None
    assert now.scopes == scopes_of(Role.VIEWER, is_operator=False)


async def test_what_a_tenant_may_use_is_shared_by_its_keys_and_tokens_and_changes_while_they_live(
    house: House, gateway: Gateway
):
    owner, stranger = await house.token(), await house.token(STRANGER)
    key = await house.ok("POST", "/v1/api_keys", stranger, {"name": "k"})
    limits = {"requests_per_minute": 60, "budgets": [{"period": "day", "tokens": 1000, "money": 2.5}]}
    await house.ok("POST", f"/v1/tenants/{key['tenant']}", owner, {"limits": limits})
    await gateway.follow()
    for shown in (key["key"], stranger):
        caller = gateway.credentials.identify(shown.encode())
        assert caller is not None
        assert caller.shared == Allowances(60, budgets=(Budget(Period.DAY, 1000, 2.5),))
        assert caller.is_limited


@on_both
async def test_a_key_stands_as_it_was_said_within_what_its_tenant_may(house: House, gateway: Gateway):
    owner, stranger = await house.token(), await house.token(STRANGER)
    said = {"name": "k", "priority_max": "batch", "sensitivity": "confidential"}
    batch = await house.ok("POST", "/v1/api_keys", stranger, said)
    public = await house.ok("POST", "/v1/api_keys", stranger, {"name": "k", "sensitivity": "public"})

    def stands(shown: str) -> tuple[Priority, Priority, bool, Sensitivity]:
        caller = gateway.credentials.identify(shown.encode())
        assert caller is not None
        return caller.priority, caller.priority_max, caller.local_only, caller.sensitivity

    await gateway.follow()
    lowest, confidential, open_to_all = Priority.BATCH, Sensitivity.CONFIDENTIAL, Sensitivity.PUBLIC
    assert stands(batch["key"]) == (lowest, lowest, False, confidential)
    assert stands(public["key"]) == (Priority.STANDARD, Priority.INTERACTIVE, False, open_to_all)
    bounds = {"priority_max": "standard", "local_only": True, "sensitivity": "internal"}
    await house.ok("POST", f"/v1/tenants/{batch['tenant']}", owner, bounds)
    await gateway.follow()
    assert stands(batch["key"]) == (lowest, lowest, True, confidential)
    for shown in (public["key"], stranger):
        assert stands(shown) == (Priority.STANDARD, Priority.STANDARD, True, Sensitivity.INTERNAL)
    lifted = {"priority_max": "interactive", "local_only": False, "sensitivity": "public"}
    await house.ok("POST", f"/v1/tenants/{batch['tenant']}", owner, lifted)
    await house.ok("POST", f"/v1/api_keys/{batch['id']}", stranger, {"local_only": True})
    await gateway.follow()
    assert stands(batch["key"]) == (lowest, lowest, True, confidential)
    assert stands(public["key"]) == (Priority.STANDARD, Priority.INTERACTIVE, False, open_to_all)


@on_both
async def test_a_gateway_of_before_is_not_told_of_whom_it_could_not_keep_to(house: House):
    owner, stranger = await house.token(), await house.token(STRANGER)
    plain = await house.ok("POST", "/v1/api_keys", owner, {"name": "k"})
    local = await house.ok("POST", "/v1/api_keys", owner, {"name": "k", "local_only": True})
    theirs = await house.ok("POST", "/v1/api_keys", stranger, {"name": "k"})
    before = await pages(house, form=1)
    assert {one.id for one in before.keys} == {plain["id"], theirs["id"]}
    await house.ok("POST", f"/v1/api_keys/{plain['id']}", owner, {"priority_max": "batch"})
    await house.ok("POST", f"/v1/tenants/{theirs['tenant']}", owner, {"local_only": True})
    after = await pages(house, before.epoch, before.revision, form=1)
    assert (after.keys, after.restarts) == ([], False)
    assert set(after.gone) >= {plain["id"], theirs["tenant"]}
    fresh = await pages(house, form=1)
    assert fresh.keys == []
    assert {one.tenant for one in fresh.principals} == {plain["tenant"]}
    updated = await pages(house, after.epoch, after.revision)
    assert updated.restarts, "what it was not told before it reads now"
    assert {one.id for one in updated.keys} == {plain["id"], local["id"], theirs["id"]}
    assert (await pages(house, updated.epoch, updated.revision)).restarts is False


async def test_a_key_ends_by_itself_when_its_time_comes(house: House, gateway: Gateway):
    owner = await house.token()
    key = await house.ok("POST", "/v1/api_keys", owner, {"name": "k", "expires_at": house.clock + 60})
    await gateway.follow()
    caller = gateway.credentials.identify(key["key"].encode())
    assert caller is not None
    assert gateway.credentials.refresh()
    house.clock += 60
    assert gateway.credentials.identify(key["key"].encode()) is None
    assert gateway.credentials.refresh(), "somebody has gone without a word of accounts"
    assert gateway.credentials.still(caller) is None


async def test_who_waits_is_answered_when_something_is_new_and_else_in_time(house: House):
    first = await pages(house)
    waiting = asyncio.create_task(pages(house, first.epoch, first.revision, wait_s=30))
    owner = await house.token()
    key = await house.ok("POST", "/v1/api_keys", owner, {"name": "k"})
    page = await asyncio.wait_for(waiting, 20)
    assert [one.id for one in page.keys] == [key["id"]]
    assert page.keys[0].digest == hashlib.sha256(key["key"].encode()).hexdigest()
    assert key["key"] not in str(msgspec.to_builtins(page))
    nothing = await pages(house, page.epoch, page.revision, wait_s=0.01)
    assert (nothing.revision, nothing.keys, nothing.has_more) == (page.revision, [], False)


@on_both
async def test_small_pages_tell_all_and_who_was_away_too_long_begins_anew(
    house: House, gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    owner = await house.token()
    service = house.app.state.service
    feed = msgspec.structs.replace(house.settings.feed, page_max=1)
    monkeypatch.setattr(
        house.app.state.feed, "_service", SmallPages(service, msgspec.structs.replace(house.settings, feed=feed))
    )
    made = [await house.ok("POST", "/v1/api_keys", owner, {"name": "k"}) for _ in range(4)]
    await house.ok("DELETE", f"/v1/api_keys/{made[0]['id']}", owner)
    async with service.changing() as on:
        await changes.forget(on, house.clock + 1, house.clock + 1)
    fresh = Gateway(house, tmp_path)
    await fresh.follow()
    assert fresh.restarts == 0, "it never knew what was forgotten"
    await gateway.follow()
    assert gateway.restarts == 1
    for one in (gateway, fresh):
        found = [one.credentials.identify(key["key"].encode()) is not None for key in made]
        assert found == [False, True, True, True]


class SmallPages:
    """The service with other settings."""

    def __init__(self, service: Any, settings: Any) -> None:
        self._service = service
        self.settings = settings

    def __getattr__(self, name: str) -> Any:
        return getattr(self._service, name)


async def test_a_database_that_was_restored_is_read_anew_without_a_gap(house: House, gateway: Gateway):
    key = await house.ok("POST", "/v1/api_keys", await house.token(), {"name": "k"})
    await gateway.follow()
    async with house.app.state.service.changing() as on:
        await changes.renew(on, "another life")
    known = gateway.credentials.known
    page = await pages(house, known.epoch, known.revision, known.since)
    assert page.restarts
    assert page.epoch.startswith("another life")
    await gateway.follow()
    assert gateway.credentials.known is not known
    assert gateway.credentials.identify(key["key"].encode()) is not None


async def test_what_a_gateway_knew_is_there_when_it_starts_again(house: House, gateway: Gateway, tmp_path: Path):
    from cordee.adapters import credentials_state  # noqa: PLC0415

    key = await house.ok("POST", "/v1/api_keys", await house.token(), {"name": "k"})
    token = await house.token()
    await gateway.follow()
    credentials_state.keep(tmp_path, gateway.credentials.known.whole(), SECRET)
    path = tmp_path / credentials_state.STATE_FILE
    assert path.stat().st_mode & 0o777 == 0o600
    again = Gateway(house, tmp_path)
    again.follower.remember()
    assert again.credentials.identify(key["key"].encode()) is not None
    assert again.credentials.identify(token.encode()) is not None
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"inference"', b'"admin"', 1))
    assert credentials_state.kept(tmp_path, SECRET) is None, "changed by somebody"
    path.write_bytes(raw)
    assert credentials_state.kept(tmp_path, b"x" * 32) is None


@pytest.mark.parametrize(
    ("who", "status"),
    [
        (None, 401), ("v1.x.y", 401),
        (vouch.vouch(SYSTEM, TO_SERVICES, b"x" * 32, 1_800_000_000.0), 401),
        (vouch.vouch(SYSTEM, TO_GATEWAYS, SECRET, 1_800_000_000.0), 401),
        (vouch.vouch(SYSTEM, TO_SERVICES, SECRET, 1_800_000_000.0 - 61), 401),
        (vouch.vouch(Vouched("t", "k", "", frozenset({"admin"})), TO_SERVICES, SECRET, 1_800_000_000.0), 403),
    ],
)  # fmt: skip
async def test_nobody_but_the_installation_reads_the_feed(house: House, who: str | None, status: int):
    assert (await ask(house, who)).status_code == status
    answer = await house.ask("GET", credentials.PATH, await house.token())
    assert answer.status_code == 401


async def test_everybody_there_before_the_feed_was_is_told(house: House):
    page = await pages(house)
    assert {one.id for one in page.tenants} == {one.tenant for one in page.principals}
    assert len(page.principals) == 2
    assert OWNER not in str(msgspec.to_builtins(page)), "addresses are not gateways' business"
