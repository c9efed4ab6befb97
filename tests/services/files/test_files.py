from __future__ import annotations

import hashlib
import json
import os
from typing import Any

import pytest

from cordee.wire.vouch import Vouched
from tests.services import on_both
from tests.services.files.conftest import ADA, BOB, EVE, MIB, SYSTEM, House

pytestmark = pytest.mark.anyio
MISSING = "file_" + "0" * 32
CONTENT = os.urandom(3 * MIB + 12_345)  # several pieces and blocks, the last ones short


@on_both
async def test_the_official_client_keeps_lists_reads_and_deletes_files(house: House):
    client = house.openai(ADA)
    lines = b'{"custom_id": "1"}\n'
    made = await client.files.create(file=("in put.jsonl", lines), purpose="batch")
    assert (made.bytes, made.filename, made.purpose, made.status) == (19, "in put.jsonl", "batch", "processed")
    assert made.expires_at == made.created_at + 30 * 86_400
    kept = await client.files.create(
        file=CONTENT, purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600}
    )
    assert kept.expires_at == kept.created_at + 3600
    assert [file.id async for file in client.files.list()] == [kept.id, made.id]
    assert [file.id async for file in client.files.list(purpose="batch", limit=1)] == [made.id]
    assert [file.id async for file in client.files.list(limit=1, order="asc")] == [made.id, kept.id]
    assert await client.files.retrieve(made.id) == made
    assert (await client.files.content(kept.id)).content == CONTENT
    assert (await client.files.content(made.id)).text == lines.decode()
    assert (await client.files.wait_for_processing(kept.id)).id == kept.id
    assert (await client.files.delete(kept.id)).deleted
    assert [file.id async for file in client.files.list()] == [made.id]
    assert await house.told() == ["file.created", "file.created", "file.deleted"]


async def test_what_lies_in_storage_is_for_the_owner_alone_and_tells_nothing(house: House):
    await house.made(b"a secret that nobody reads " * 10_000, name="secret.txt")
    (path,) = house.stored()
    assert b"secret that" not in path.read_bytes()
    assert "secret" not in str(path.relative_to(house.data))
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert (path.parent.parent.stat().st_mode & 0o777) == 0o700


async def test_any_range_is_what_a_slice_would_be(house: House):
    path = f"/v1/files/{(await house.made(CONTENT))['id']}/content"
    size = len(CONTENT)
    for header, start, stop in (
        ("bytes=0-0", 0, 1), ("bytes=65535-65536", 65_535, 65_537), ("bytes=1048570-2097160", 1_048_570, 2_097_161),
        ("bytes=-1", size - 1, size), (f"bytes={size - 3}-{size + 99}", size - 3, size), ("bytes=100-", 100, size),
        ("bytes=-99999999", 0, size),
    ):  # fmt: skip
        answer = await house.ask("GET", path, headers={"range": header})
        assert (answer.status_code, answer.content == CONTENT[start:stop]) == (206, True), header
        assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
    for ignored in ("bytes=5-1", "lines=0-1", "bytes=0-1,3-4", "bytes=-", "bytes=a-b"):
        assert (await house.ask("GET", path, headers={"range": ignored})).status_code == 200
    for header in (f"bytes={size}-", "bytes=-0", "bytes=99999999999999999-"):
        answer = await house.ask("GET", path, headers={"range": header})
        assert (answer.status_code, answer.headers["content-range"]) == (416, f"bytes */{size}")


async def test_a_content_is_always_to_be_saved_and_known_by_its_hash(house: House):
    page = b"<!DOCTYPE html><script>alert(1)</script>"
    made = await house.made(page, name="../../p\u202ege.html", kind="text/html")
    path = f"/v1/files/{made['id']}/content"
    answer = await house.ask("GET", path)
    tag = f'"{hashlib.sha256(page).hexdigest()}"'
    assert answer.headers["etag"] == tag
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == "attachment; filename=\"pge.html\"; filename*=UTF-8''pge.html"
    for header in (tag, f"W/{tag}", "*", f'"x", {tag}'):
        same = await house.ask("GET", path, headers={"if-none-match": header})
        assert (same.status_code, same.content) == (304, b"")
    other = await house.ask("GET", path, headers={"range": "bytes=0-1", "if-range": '"x"'})
    assert (other.status_code, other.content) == (200, page)
    head = await house.ask("HEAD", path)
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(page)))


@on_both
@pytest.mark.parametrize(
    "who", [EVE, BOB, Vouched("tenant_a", "key_t", "", ADA.scopes)], ids=["tenant", "user", "no one"]
)
async def test_anothers_file_is_as_missing_as_a_missing_one(house: House, who: Vouched):
    mine = (await house.made(b"mine"))["id"]
    upload = await house.begun(4)
    part = (await house.part(upload, b"mine")).json()["id"]
    for method, path, body in (
        ("GET", "files/{}", None), ("DELETE", "files/{}", None), ("GET", "files/{}/content", None),
        ("GET", "uploads/{}", None), ("GET", "uploads/{}/parts", None), ("POST", "uploads/{}/cancel", None),
        ("POST", "uploads/{}/complete", {"part_ids": [part]}), ("POST", "uploads/{}/parts", "part"),
    ):  # fmt: skip
        kind = path.split("/")[0]
        one, none = (mine, MISSING) if kind == "files" else (upload, MISSING.replace("file", "upload"))
        more = {"files": {"data": ("x", b"x")}} if body == "part" else {} if body is None else {"json": body}
        theirs = await house.ask(method, f"/v1/{path.format(one)}", who, **more)
        missing = await house.ask(method, f"/v1/{path.format(none)}", who, **more)
        assert (theirs.status_code, missing.status_code) == (404, 404), (method, path, theirs.text)
        assert theirs.text.replace(one, "") == missing.text.replace(none, "")
    assert (await house.ok("GET", "/v1/files", who))["data"] == []
    own = await house.begun(4, who)
    taken = await house.ask("POST", f"/v1/uploads/{own}/complete", who, json={"part_ids": [part]})
    assert (taken.status_code, taken.json()["error"]["param"]) == (400, "part_ids")
    assert (await house.ask("GET", f"/v1/files/{mine}/content")).content == b"mine"


async def test_nobody_asks_without_being_vouched_for_or_beyond_their_scopes(house: House):
    assert (await house.client.get("/v1/files")).status_code == 401
    reader = Vouched("tenant_a", "k", "user_ada", frozenset({"files.read"}))
    mine = (await house.made(b"mine"))["id"]
    assert (await house.ask("GET", f"/v1/files/{mine}", reader)).status_code == 200
    for method, path in (("POST", "/v1/files"), ("DELETE", f"/v1/files/{mine}"), ("POST", "/v1/uploads")):
        more = {"json": {"bytes": 1, "filename": "a", "mime_type": "a/b", "purpose": "evals"}} if "upl" in path else {}
        assert (await house.ask(method, path, reader, **more)).status_code == 403, path
    nobody = Vouched("tenant_a", "k", "user_ada", frozenset())
    assert (await house.ask("GET", f"/v1/files/{mine}/content", nobody)).status_code == 403
    assert (await house.ask("POST", "/v1/files/erasures", json={"tenant": "tenant_a"})).status_code == 403


@on_both
async def test_the_same_request_again_makes_no_second_file(house: House):
    async def again(who: Vouched = ADA) -> str:
        form = {"data": {"purpose": "user_data"}, "files": {"file": ("a", b"content")}}
        return str((await house.ok("POST", "/v1/files", who, headers={"idempotency-key": "k"}, **form))["id"])

    first = await again()
    assert await again() == first
    assert await again(BOB) != first
    assert len(house.stored()) == 2


@on_both
async def test_a_tenant_has_no_more_than_its_quota(house: House):
    first = await house.made(b"x" * 4 * MIB)
    over = await house.put(b"x" * 3 * MIB, BOB)
    assert (over.status_code, over.json()["error"]["code"]) == (403, "quota_exceeded")
    assert (await house.made(b"x" * 3 * MIB, EVE))["bytes"] == 3 * MIB
    announced = await house.ask(
        "POST", "/v1/uploads", json={"bytes": 3 * MIB, "filename": "a", "mime_type": "a/b", "purpose": "evals"}
    )
    assert announced.json()["error"]["code"] == "quota_exceeded"
    await house.ok("DELETE", f"/v1/files/{first['id']}")
    for _ in range(5):
        await house.made(b"x")
    sixth = await house.put(b"x")
    assert (sixth.status_code, sixth.json()["error"]["code"]) == (403, "quota_exceeded")


async def test_a_file_that_is_too_large_is_a_413_and_leaves_nothing(house: House):
    answer = await house.put(b"x" * (4 * MIB + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "file_too_large")
    assert house.stored() == []


async def test_only_batches_hand_in_what_batches_put_out(house: House):
    assert (await house.put(b"{}\n", purpose="batch_output")).status_code == 400
    both = Vouched("tenant_a", "k", "user_ada", ADA.scopes | {"system"})
    made = await house.made(b"{}\n", both, purpose="batch_output")
    assert (await house.ok("GET", f"/v1/files/{made['id']}"))["purpose"] == "batch_output"


FORM = {"content-type": "multipart/form-data; boundary=b"}
BAD: list[tuple[dict[str, Any], str | None]] = [
    ({"data": {}, "files": {"file": ("a", b"x")}}, "purpose"),
    ({"data": {"purpose": "evil"}, "files": {"file": ("a", b"x")}}, "purpose"),
    ({"data": {"purpose": "evals", "tenant": "x"}, "files": {"file": ("a", b"x")}}, "tenant"),
    ({"data": {"purpose": "evals"}, "files": {"other": ("a", b"x")}}, "other"),
    ({"data": {"purpose": "batch"}, "files": {"file": ("a", b"\x89PNG\0\0")}}, "file"),
    ({"data": {"purpose": "vision"}, "files": {"file": ("a.png", b"no image", "image/png")}}, "file"),
    ({"data": {"purpose": "user_data"}, "files": {"file": ("a.pdf", b"<html>", "application/pdf")}}, "file"),
    ({"data": {"purpose": "evals", "expires_after[anchor]": "now"}, "files": {"file": ("a", b"x")}}, "expires_after.anchor"),
    ({"data": {"purpose": "evals", "expires_after[anchor]": "created_at", "expires_after[seconds]": "1"},
      "files": {"file": ("a", b"x")}}, "expires_after.seconds"),
    ({"data": {"purpose": "evals", "expires_after[seconds]": "-1"}, "files": {"file": ("a", b"x")}}, "expires_after.seconds"),
    ({"files": [("file", ("a", b"x")), ("file", ("b", b"y")), ("purpose", (None, "evals"))]}, "file"),
    ({"data": {"purpose": "x" * 5000}, "files": {"file": ("a", b"x")}}, "purpose"),
    ({"files": {"purpose": (None, "evals")}}, "file"),
    ({"json": {"purpose": "evals"}}, None),
    ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, None),
    ({"content": b"--b\r\n", "headers": FORM}, None),
    ({"content": b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--", "headers": FORM}, None),
    ({"content": b"--b\r\n" + b"A: b\r\n" * 1000, "headers": FORM}, None),
    ({"content": b"--b\r\nA: " + b"b" * 99_999, "headers": FORM}, None),
    ({"files": [("x", (None, "y"))] * 50}, "x"),
]  # fmt: skip


async def test_bad_forms_are_a_400_that_names_the_parameter_and_leave_nothing(house: House):
    for more, param in BAD:
        answer = await house.ask("POST", "/v1/files", **more)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), (more, answer.text)
        assert house.stored() == [], more
    for path, param in (("?limit=0", "limit"), ("?limit=10001", "limit"), ("?purpose=x", "purpose"), ("?after=%00", "after"),
                        ("/..%2f..%2fetc", None), ("/%00", None), ("/x'--", None), ("/exports?user=%00", "user")):  # fmt: skip
        answer = await house.ask("GET", f"/v1/files{path}")
        assert answer.status_code in (400, 404), (path, answer.text)
        assert answer.json()["error"]["param"] == param, path


async def test_fields_may_follow_the_file_and_still_count(house: House):
    files = [("file", ("a", b"\0binary")), ("purpose", (None, "batch"))]
    answer = await house.ask("POST", "/v1/files", files=files)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "file")
    assert house.stored() == []
    files = [("file", ("a", b"{}\n")), ("purpose", (None, "batch"))]
    assert (await house.ok("POST", "/v1/files", files=files))["purpose"] == "batch"


async def test_an_empty_file_is_a_file(house: House):
    made = await house.made(b"")
    answer = await house.ask("GET", f"/v1/files/{made['id']}/content")
    assert (made["bytes"], answer.status_code, answer.content) == (0, 200, b"")


@on_both
async def test_all_that_belongs_to_somebody_is_handed_out_and_erased(house: House):
    mine = await house.made(b"hers" * 100_000)
    await house.made(b"his", BOB)
    upload = await house.begun(4)
    await house.part(upload, b"part")
    answer = await house.ask("GET", "/v1/files/exports?content=true")
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["type"] for line in lines] == ["file", "file.content", "upload"]
    assert lines[0]["file"]["id"] == mine["id"]
    assert (await house.ask("GET", "/v1/files/exports?user=user_bob")).status_code == 403
    admin = Vouched("tenant_a", "k", "user_ada", ADA.scopes | {"users.write"})
    others = await house.ask("GET", "/v1/files/exports?user=user_bob&content=true", admin)
    assert [json.loads(line)["type"] for line in others.text.splitlines()] == ["file", "file.content"]
    assert (await house.told()).count("archive.exported") == 2
    erase = {"tenant": "tenant_a", "user": "user_ada"}
    assert (await house.ok("POST", "/v1/files/erasures", SYSTEM, json=erase)) == {"done": True}
    assert len(house.stored()) == 1
    assert (await house.ok("GET", "/v1/files"))["data"] == []
    assert len((await house.ok("GET", "/v1/files", BOB))["data"]) == 1
    for _ in range(2):
        assert (await house.ok("POST", "/v1/files/erasures", SYSTEM, json={"tenant": "tenant_a"}))["done"]
    assert house.stored() == []
