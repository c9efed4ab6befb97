from __future__ import annotations

from typing import Any

import openai
import pytest

from cordee.services.base.principal import SYSTEM
from cordee.wire.vouch import Vouched
from tests.services import on_both
from tests.services.webhooks.conftest import ADA, SCOPES, House, Receiver

pytestmark = pytest.mark.anyio
URL = "https://example.com/hook"
EVE = Vouched("tenant_2", "key_2", "user_2", SCOPES)
COLLEAGUE = Vouched("tenant_1", "key_3", "user_3", SCOPES)


@on_both
async def test_the_official_client_makes_shows_changes_and_removes_endpoints(house: House):
    client = house.official()
    made = await client.webhooks.create(name="mine", url=URL, event_types=["response.completed", "batch.failed"])
    assert made.signing_secret.startswith("whsec_")
    assert made.event_types == ["response.completed", "batch.failed"]
    shown = await client.webhooks.retrieve(made.id)
    assert (shown.url, shown.name, shown.object) == (URL, "mine", "webhook_endpoint")
    assert made.signing_secret not in shown.model_dump_json()
    house.clock += 5
    changed = await house.official().webhooks.update(made.id, name="ours")
    assert (changed.name, changed.url, changed.updated_at) == ("ours", URL, int(house.clock))
    rotated = await client.webhooks.rotate_secret(made.id)
    assert rotated.signing_secret != made.signing_secret
    assert [one.id async for one in client.webhooks.list()] == [made.id]
    assert (await client.webhooks.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await client.webhooks.retrieve(made.id)
    assert "response.completed" in (await client.webhooks.event_types.list()).data
    assert await house.told() == [
        f"cordee.webhooks.endpoint.{what}" for what in ("created", "changed", "rotated", "deleted")
    ]


@on_both
async def test_anothers_endpoint_is_one_that_does_not_exist(house: House, receiver: Receiver):
    made = await house.endpoint(receiver.url)
    await house.happens()
    await house.deliverer.once()
    (delivery,) = await house.deliveries(made["id"])
    path = f"/v1/webhook_endpoints/{made['id']}"
    missing = f"/v1/webhook_endpoints/wh_{0:032x}"
    asks: list[tuple[str, str, Any]] = [
        ("GET", "", None), ("POST", "", {"name": "x"}), ("DELETE", "", None), ("POST", "/rotate_secret", {}),
        ("POST", "/test", {"event_type": "batch.completed"}), ("GET", "/deliveries", None),
        ("POST", f"/deliveries/{delivery['id']}/redeliver", None),
    ]  # fmt: skip
    for caller in (EVE, COLLEAGUE):
        for method, rest, body in asks:
            theirs = await house.ask(method, path + rest, body, caller)
            none = await house.ask(method, missing + rest, body, caller)
            assert theirs.status_code == none.status_code == 404
            assert theirs.text.replace(made["id"], "") == none.text.replace(missing.rpartition("/")[2], "")
        assert (await house.ok("GET", "/v1/webhook_endpoints", caller=caller))["data"] == []
    assert (await house.ok("GET", path))["name"] == "mine"
    assert len(receiver.received) == 1


async def test_who_lacks_the_scope_is_told_which(house: House):
    reader = Vouched("tenant_1", "key_1", "user_1", frozenset({"webhooks.read"}))
    body = {"name": "x", "url": URL, "event_types": ["batch.failed"]}
    refused = await house.ask("POST", "/v1/webhook_endpoints", body, reader)
    assert refused.status_code == 403
    assert "webhooks.write" in refused.json()["error"]["message"]
    assert (await house.ask("GET", "/v1/webhook_endpoints", caller=None)).status_code == 401


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"url": URL, "event_types": ["batch.failed"]}, "name"),
        ({"name": "", "url": URL, "event_types": ["batch.failed"]}, "name"),
        ({"name": "a\r\nb", "url": URL, "event_types": ["batch.failed"]}, "name"),
        ({"name": "x", "url": URL, "event_types": []}, "event_types"),
        ({"name": "x", "url": URL, "event_types": ["no.such"]}, "event_types.0"),
        ({"name": "x", "url": "https://10.0.0.1/", "event_types": ["batch.failed"]}, "url"),
        ({"name": "x", "url": "http://169.254.169.254/latest", "event_types": ["batch.failed"]}, "url"),
        ({"name": "x", "url": URL, "event_types": ["batch.failed"], "tenant": "tenant_2"}, "tenant"),
    ],
)
async def test_bad_input_is_a_400_that_names_the_parameter(house: House, body: dict[str, Any], param: str):
    refused = await house.ask("POST", "/v1/webhook_endpoints", body)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == param


async def test_a_tenant_has_no_more_endpoints_than_it_may(house: House):
    object.__setattr__(house.service, "settings", type(house.settings)(endpoints_per_tenant_max=1))
    await house.endpoint(URL)
    body = {"name": "x", "url": URL, "event_types": ["batch.failed"]}
    assert (await house.ask("POST", "/v1/webhook_endpoints", body)).status_code == 409
    assert (await house.ask("POST", "/v1/webhook_endpoints", body, EVE)).status_code == 200


@on_both
async def test_all_that_belongs_to_one_is_written_out_and_erased(house: House, receiver: Receiver):
    mine = await house.endpoint(receiver.url)
    theirs = await house.endpoint(receiver.url, caller=COLLEAGUE)
    await house.happens(subject="user_1")
    out = (await house.ask("GET", "/v1/webhooks/exports")).text
    assert mine["id"] in out
    assert theirs["id"] not in out
    assert mine["signing_secret"] not in out
    assert len(out.splitlines()) == 2
    assert (await house.ask("GET", "/v1/webhooks/exports?user=user_3")).status_code == 403
    body = {"tenant": "tenant_1", "user": "user_1"}
    assert (await house.ask("POST", "/v1/webhooks/erasures", body)).status_code == 403
    system = Vouched("", "system", "", frozenset({SYSTEM}))
    for _ in range(2):
        assert await house.ok("POST", "/v1/webhooks/erasures", body, system) == {"done": True}
    assert (await house.ask("GET", f"/v1/webhook_endpoints/{mine['id']}")).status_code == 404
    assert (await house.ask("GET", f"/v1/webhook_endpoints/{theirs['id']}", caller=COLLEAGUE)).status_code == 200
    await house.ok("POST", "/v1/webhooks/erasures", {"tenant": "tenant_1"}, system)
    assert (await house.ask("GET", f"/v1/webhook_endpoints/{theirs['id']}", caller=COLLEAGUE)).status_code == 404


async def test_a_secret_lies_sealed_in_the_database(house: House):
    made = await house.endpoint(URL)
    assert house.database.path is not None
    kept = b"".join(path.read_bytes() for path in house.database.path.parent.glob("webhooks.db*"))
    assert made["id"].encode() in kept
    assert made["signing_secret"].removeprefix("whsec_").encode() not in kept
    assert ADA.subject.encode() in kept
