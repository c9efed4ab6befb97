from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.services import on_both
from tests.services.batches.conftest import ADA, EVE, INSTALLATION, OPERATOR, House
from tests.services.batches.doubles import request

pytestmark = pytest.mark.anyio
SERVICES = ["accounts", "batches", "chats", "files", "webhooks"]


@on_both
async def test_a_tenant_is_erased_from_accounts_first_and_then_from_every_service(house: House):
    house.door.left.update(dict.fromkeys(SERVICES, 3))
    made = await house.ok("POST", "/v1/jobs", OPERATOR, {"kind": "tenant.erase", "tenant": "tenant_1"})
    assert (made["object"], made["state"], made["data"]) == ("job", "queued", {"tenant": "tenant_1", "user": None})
    ended = await house.job(made["id"], "done")
    assert ended["error"] is None
    assert dict(house.door.effects) == dict.fromkeys(SERVICES, 3)
    asked = [(who, one) for who, one in house.door.asked if one.path.endswith("/erasures")]
    assert [one.path for _, one in asked[:4]] == ["/v1/accounts/erasures"] * 3 + ["/v1/chats/erasures"]
    assert {(who.tenant, who.scopes) for who, _ in asked} == {("tenant_1", frozenset({"system"}))}
    assert all(one.body == {"tenant": "tenant_1"} for _, one in asked)


async def test_a_user_is_erased_by_who_may_write_users(house: House):
    body = {"kind": "user.erase", "user": "user_9"}
    assert (await house.ask("POST", "/v1/jobs", ADA, body)).status_code == 403
    admin = replace(ADA, scopes=ADA.scopes | {"users.write"})
    other = await house.ask("POST", "/v1/jobs", admin, body | {"tenant": "tenant_2"})
    assert (other.status_code, other.json()["error"]["code"]) == (403, "no_scope")
    made = await house.ok("POST", "/v1/jobs", admin, body)
    await house.job(made["id"], "done")
    assert all(one.body == {"tenant": "tenant_1", "user": "user_9"} for _, one in house.door.asked)


async def test_what_must_not_be_erased_ends_the_job_with_the_reason(house: House):
    house.door.refuses_erasing = 409
    made = await house.ok("POST", "/v1/jobs", OPERATOR, {"kind": "tenant.erase", "tenant": "tenant_1"})
    assert "/v1/accounts/erasures answered 409" in (await house.job(made["id"], "failed"))["error"]
    assert not house.door.effects


async def test_a_service_that_cannot_erase_now_is_asked_until_it_can(house: House):
    house.door.refuses_erasing = 503
    made = await house.ok("POST", "/v1/jobs", OPERATOR, {"kind": "tenant.erase", "tenant": "tenant_1"})
    async with asyncio.timeout(30):
        while (await house.ok("GET", f"/v1/jobs/{made['id']}", OPERATOR))["tries"] < 3:
            await asyncio.sleep(0.01)
    house.door.refuses_erasing = 0
    await house.job(made["id"], "done")


@pytest.mark.parametrize(
    ("body", "param"),
    [({"kind": "tenant.erase", "tenant": "operators"}, "tenant"), ({"kind": "tenant.erase"}, "tenant.erase.tenant"),
     ({"kind": "else"}, None), ({"kind": "tenant.erase", "tenant": "a b"}, "tenant.erase.tenant"), ([], None)],
)  # fmt: skip
async def test_a_job_that_cannot_be_meant_is_refused(body: object, param: str | None, house: House):
    answer = await house.ask("POST", "/v1/jobs", OPERATOR, body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param


async def test_an_erasure_that_has_begun_goes_on_and_cannot_be_cancelled(house: House):
    house.door.left["chats"] = 10**9
    made = await house.ok("POST", "/v1/jobs", OPERATOR, {"kind": "tenant.erase", "tenant": "tenant_1"})
    await house.until(f"/v1/jobs/{made['id']}", "step", "erase.chats", who=OPERATOR)
    answer = await house.ask("POST", f"/v1/jobs/{made['id']}/cancel", OPERATOR)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "conflict")
    house.door.left["chats"] = 0
    await house.job(made["id"], "done")


async def test_operators_see_everybodys_jobs_and_others_their_own(house: House):
    made = await house.begin(request("a"))
    job = (await house.ok("GET", "/v1/jobs", OPERATOR))["data"][0]
    assert (job["kind"], job["data"]) == ("batch", {"batch": made["id"]})
    assert (await house.ok("GET", "/v1/jobs", EVE))["data"] == []
    await house.job(job["id"], "done")


async def test_cancelling_the_job_of_a_batch_cancels_the_batch(house: House):
    house.door.slow.clear()
    made = await house.begin(request("a"))
    job = (await house.ok("GET", "/v1/jobs"))["data"][0]
    await house.ok("POST", f"/v1/jobs/{job['id']}/cancel")
    await house.batch(made["id"], "cancelled")


async def test_the_erasure_of_a_tenant_leaves_the_job_that_erases_it(house: House):
    admin = replace(ADA, scopes=ADA.scopes | {"users.write"})
    made = await house.ok("POST", "/v1/jobs", admin, {"kind": "user.erase", "user": "user_9"})
    await house.ok("POST", "/v1/batches/erasures", INSTALLATION, {"tenant": "tenant_1"})
    assert (await house.job(made["id"], "done"))["kind"] == "user.erase"
