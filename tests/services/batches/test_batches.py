from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import openai
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from cordee.services.batches.tables import metadata
from tests.services import on_both
from tests.services.batches.conftest import ADA, EVE, INSTALLATION, House, official
from tests.services.batches.doubles import plain, request

pytestmark = pytest.mark.anyio


@on_both
async def test_every_line_is_answered_once_and_stands_in_one_file(house: House):
    house.door.answer = lambda body, times: (400, {"error": {}}) if body.get("seed") == 1 else plain(body, times)
    asked = [request(f"r{n}", f"say {n}", seed=n % 5) for n in range(23)]
    made = await house.begin(*asked, metadata={"for": "tests"})
    assert (made["status"], made["object"], made["metadata"]) == ("validating", "batch", {"for": "tests"})
    ended = await house.batch(made["id"], "completed")
    assert ended["request_counts"] == {"total": 23, "completed": 18, "failed": 5}
    assert (ended["model"], ended["usage"]["total_tokens"]) == ("oracle", 18 * 5)
    outcomes = house.outcomes(ended)
    assert outcomes["output_file_id"] == [f"r{n}" for n in range(23) if n % 5 != 1]
    assert outcomes["error_file_id"] == [f"r{n}" for n in range(23) if n % 5 == 1]
    assert set(house.door.effects.values()) == {1}
    line = house.door.lines(ended["output_file_id"])[0]
    assert line["response"]["status_code"] == 200
    assert line["response"]["body"]["said"] == "say 0"
    assert (line["error"], line["response"]["request_id"]) == (None, "req_1")


async def test_lines_are_asked_as_their_maker_at_batch_priority_and_never_too_many(house: House):
    made = await house.begin(*(request(f"r{n}") for n in range(40)))
    await house.batch(made["id"], "completed")
    asked = [(who, one) for who, one in house.door.asked if one.path == "/v1/chat/completions"]
    assert {who for who, _ in asked} == {ADA}
    assert {one.priority for _, one in asked} == {"batch"}
    assert house.door.running_most <= house.settings.lines_at_once


async def test_a_refusal_for_want_of_room_is_asked_again_and_never_counted_as_a_failure(house: House):
    def busy(body: dict[str, object], times: int) -> tuple[int, dict[str, object]]:
        return (429, {"error": {"code": "rate"}}) if times <= 7 else plain(body, times)

    house.door.answer = busy
    made = await house.begin(request("a"), request("b"))
    ended = await house.batch(made["id"], "completed")
    assert ended["request_counts"]["completed"] == 2


async def test_a_line_that_fails_again_and_again_is_given_up_with_its_answer(house: House):
    house.door.answer = lambda body, times: (
        (500, {"error": {"message": "no"}}) if body.get("seed") else plain(body, times)
    )
    made = await house.begin(request("bad", seed=1), request("good"))
    ended = await house.batch(made["id"], "completed")
    (line,) = house.door.lines(ended["error_file_id"])
    assert (line["custom_id"], line["response"]["status_code"]) == ("bad", 500)
    assert max(house.door.tries.values()) == house.settings.tries_max


@on_both
async def test_what_was_answered_before_it_was_cancelled_stays_and_the_rest_says_so(house: House):
    house.door.slow.clear()
    made = await house.begin(*(request(f"r{n}") for n in range(30)))
    await house.batch(made["id"], "in_progress")
    await _running(house)
    house.door.slow.set()
    house.door.slow = asyncio.Event()
    async with asyncio.timeout(30):
        while not (await house.ok("GET", f"/v1/batches/{made['id']}"))["request_counts"]["completed"]:
            await asyncio.sleep(0.01)
    cancelled = await house.ok("POST", f"/v1/batches/{made['id']}/cancel")
    assert cancelled["status"] == "cancelling"
    ended = await house.batch(made["id"], "cancelled")
    outcomes = house.outcomes(ended)
    assert sorted(outcomes["output_file_id"] + outcomes["error_file_id"]) == sorted(f"r{n}" for n in range(30))
    assert len(outcomes["output_file_id"]) == ended["request_counts"]["completed"] > 0
    assert house.door.lines(ended["error_file_id"])[0]["error"]["code"] == "batch_cancelled"
    assert (await house.ask("POST", f"/v1/batches/{made['id']}/cancel")).status_code == 200
    assert (await house.ok("GET", f"/v1/batches/{made['id']}"))["status"] == "cancelled"


async def _running(house: House) -> None:
    async with asyncio.timeout(30):
        while not house.door.running:
            await asyncio.sleep(0.01)


async def test_what_is_not_done_in_time_expires_with_what_was_answered(house: House):
    house.door.slow.clear()
    made = await house.begin(*(request(f"r{n}") for n in range(5)))
    await _running(house)
    house.shift_s = house.settings.window_s + 1
    ended = await house.batch(made["id"], "expired")
    assert ended["request_counts"] == {"total": 5, "completed": 0, "failed": 5}
    assert ended["output_file_id"] is None
    assert {line["error"]["code"] for line in house.door.lines(ended["error_file_id"])} == {"batch_expired"}


@on_both
async def test_a_bad_file_is_refused_with_the_numbers_of_its_lines(house: House):
    bad = [
        request("same"), b"{", b'{"custom_id": 1}', b"", request("same"), request("x") | {"method": "GET"},
        request("y") | {"url": "/v1/embeddings"}, request("z", stream=True), b"\xff\xfe", request("\x00"),
        request("ok") | {"body": {"model": 1}},
    ]  # fmt: skip
    made = await house.begin(*bad)
    ended = await house.batch(made["id"], "failed")
    assert [(one["line"], one["code"]) for one in ended["errors"]["data"]] == [
        (2, "invalid_json_line"), (3, "invalid_request"), (5, "duplicate_custom_id"), (6, "invalid_method"),
        (7, "mismatched_url"), (8, "invalid_body"), (9, "invalid_json_line"), (10, "invalid_custom_id"), (11, "invalid_body"),
    ]  # fmt: skip
    assert not [one for _, one in house.door.asked if one.path == "/v1/chat/completions"]
    assert (await house.ask("POST", f"/v1/batches/{made['id']}/cancel")).status_code == 409


@pytest.mark.parametrize(
    ("limit", "code"), [("lines_max", "too_many_tasks"), ("input_bytes_max", None), ("line_bytes_max", "line_too_long")]
)
async def test_a_file_beyond_the_limits_is_refused(limit: str, code: str | None, house: House):
    low = {"lines_max": 2, "input_bytes_max": 1024, "line_bytes_max": 1024}[limit]
    settings = msgspec.structs.replace(house.settings, **{limit: low})
    object.__setattr__(house.app.state.works.service, "settings", settings)
    house.door.upload("file-in", *(request(f"r{n}", "x" * 1100) for n in range(3)))
    body = {"input_file_id": "file-in", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    answer = await house.ask("POST", "/v1/batches", body=body)
    if code is None:
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "file_too_large")
        return
    ended = await house.batch(answer.json()["id"], "failed")
    assert ended["errors"]["data"][0]["code"] == code


@pytest.mark.parametrize("lines", [[], [b"", b"  "]])
async def test_an_empty_file_is_refused(lines: list[bytes], house: House):
    made = await house.begin(*lines)
    ended = await house.batch(made["id"], "failed")
    assert ended["errors"]["data"][0]["code"] == "empty_file"


@pytest.mark.parametrize(
    ("change", "param"),
    [({"endpoint": "/v1/audio"}, "endpoint"), ({"completion_window": "1h"}, "completion_window"),
     ({"input_file_id": "file-none"}, "input_file_id"), ({"input_file_id": "file-other"}, "input_file_id"),
     ({"input_file_id": "../../x"}, "input_file_id"), ({"metadata": {str(n): "" for n in range(17)}}, "metadata"),
     ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
     ({"tenant": "other"}, "tenant")],
)  # fmt: skip
async def test_a_request_that_cannot_be_meant_names_the_parameter(change: dict[str, object], param: str, house: House):
    house.door.upload("file-in", request("a"))
    house.door.upload("file-other", purpose="user_data")
    body = {"input_file_id": "file-in", "endpoint": "/v1/chat/completions", "completion_window": "24h"} | change
    answer = await house.ask("POST", "/v1/batches", body=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param


async def test_nothing_is_begun_while_files_cannot_be_asked_and_the_client_is_told_when_to_come_again(house: House):
    house.door.is_away = True
    body = {"input_file_id": "file-in", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    answer = await house.ask("POST", "/v1/batches", body=body)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


async def test_gateways_that_are_away_for_a_while_lose_nothing(house: House):
    made = await house.begin(*(request(f"r{n}") for n in range(20)))
    house.door.is_away = True
    await asyncio.sleep(0.1)
    house.door.is_away = False
    ended = await house.batch(made["id"], "completed")
    assert ended["request_counts"]["completed"] == 20


async def test_another_ones_batches_and_jobs_are_answered_like_those_that_are_not_there(house: House):
    made = await house.begin(request("a"))
    job = (await house.ok("GET", "/v1/jobs"))["data"][0]
    for who in (EVE, replace(EVE, tenant="tenant_1"), replace(ADA, tenant="tenant_2")):
        for method, path in (("GET", ""), ("POST", "/cancel")):
            for kind, id in (("batches", made["id"]), ("jobs", job["id"])):
                missing = id[:-4] + "0000"
                foreign = await house.ask(method, f"/v1/{kind}/{id}{path}", who)
                none = await house.ask(method, f"/v1/{kind}/{missing}{path}", who)
                assert foreign.status_code == none.status_code == 404
                assert foreign.text.replace(id, "ID") == none.text.replace(missing, "ID")
        for kind in ("batches", "jobs"):
            assert (await house.ok("GET", f"/v1/{kind}", who))["data"] == []


async def test_without_the_scope_nothing_is_allowed(house: House):
    for method, path in (("GET", "/v1/batches"), ("GET", "/v1/jobs"), ("POST", "/v1/batches/erasures")):
        nobody = replace(ADA, scopes=frozenset())
        assert (await house.ask(method, path, nobody, {"tenant": "tenant_1"})).status_code == 403
    assert (await house.client.get("/v1/batches")).status_code == 401


async def test_the_official_client_makes_sees_lists_and_cancels(house: House):
    client = official(house)
    house.door.slow.clear()
    house.door.upload("file-in", request("a"))
    made = await client.batches.create(
        input_file_id="file-in", endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"},
        output_expires_after={"anchor": "created_at", "seconds": 3600},
    )  # fmt: skip
    second = await client.batches.create(
        input_file_id="file-in", endpoint="/v1/chat/completions", completion_window="24h"
    )
    assert (await client.batches.retrieve(made.id)).id == made.id
    assert [one.id async for one in client.batches.list(limit=1)] == [second.id, made.id]
    await client.batches.cancel(made.id)
    async with asyncio.timeout(30):
        while (found := await client.batches.retrieve(made.id)).status != "cancelled":
            await asyncio.sleep(0.01)
    assert found.request_counts is not None
    assert found.errors is None
    with pytest.raises(openai.NotFoundError):
        await client.batches.retrieve("batch_none")


@on_both
async def test_the_end_is_told_once(house: House):
    made = await house.begin(request("a"))
    await house.batch(made["id"], "completed")
    async with asyncio.timeout(30):
        while len(house.events) < 2:
            await asyncio.sleep(0.01)
    assert [event.type for event in house.events] == ["cordee.batches.batch.created", "cordee.batches.batch.completed"]
    assert house.events[1].subject == made["id"]


@on_both
async def test_all_of_a_user_is_exported_and_then_erased_also_what_runs(house: House):
    house.door.slow.clear()
    first, second = await house.begin(request("a")), await house.begin(*(request(f"r{n}") for n in range(20)))
    await _running(house)
    lines = (await house.ask("GET", "/v1/batches/exports")).text.splitlines()
    assert len(lines) == 2
    assert (await house.ask("GET", "/v1/batches/exports?user=user_9")).status_code == 403
    done = False
    while not done:
        body = {"tenant": "tenant_1", "user": "user_1"}
        done = (await house.ok("POST", "/v1/batches/erasures", INSTALLATION, body))["done"]
    house.door.slow.set()
    for made in (first, second):
        assert (await house.ask("GET", f"/v1/batches/{made['id']}")).status_code == 404
    assert (await house.ok("GET", "/v1/jobs"))["data"] == []
    assert [name for name in house.door.files if name.startswith("file_")] == []


@on_both
async def test_the_newest_revision_is_what_the_code_says(house: House):
    def differences(on: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(on, opts={"compare_type": True}), metadata))

    async with house.database.reading() as on:
        assert await on.run_sync(differences) == []
