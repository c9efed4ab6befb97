from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from cordee.services.files import uploading
from tests.services import on_both
from tests.services.files.conftest import ADA, MIB, House

pytestmark = pytest.mark.anyio
CONTENT = os.urandom(2 * MIB + 777)


@on_both
async def test_the_official_client_sends_a_file_in_parts(house: House, tmp_path: Path):
    client = house.openai(ADA)
    path = tmp_path / "big.bin"
    path.write_bytes(CONTENT)
    upload = await client.uploads.upload_file_chunked(
        file=path, mime_type="application/octet-stream", purpose="user_data", part_size=MIB,
        md5=hashlib.md5(CONTENT, usedforsecurity=False).hexdigest(),
    )  # fmt: skip
    assert (upload.status, upload.bytes, upload.filename) == ("completed", len(CONTENT), "big.bin")
    assert upload.file is not None
    assert (await client.files.content(upload.file.id)).content == CONTENT
    assert len(house.stored()) == 1
    made = await client.uploads.create(bytes=4, filename="a", mime_type="text/plain", purpose="assistants")
    part = await client.uploads.parts.create(made.id, data=b"part")
    assert (part.upload_id, part.object) == (made.id, "upload.part")
    assert (await client.uploads.cancel(made.id)).status == "cancelled"
    assert len(house.stored()) == 1
    assert await house.told() == ["file.created"]


@on_both
async def test_parts_come_at_once_and_are_put_in_the_order_that_is_named(house: House):
    upload = await house.begun(6)
    answers = await asyncio.gather(*(house.part(upload, data) for data in (b"56", b"12", b"34")))
    last, first, second = [answer.json()["id"] for answer in answers]
    listed = await house.ok("GET", f"/v1/uploads/{upload}/parts")
    assert sorted(part["id"] for part in listed["data"]) == sorted([first, second, last])
    done = await house.ok("POST", f"/v1/uploads/{upload}/complete", json={"part_ids": [first, second, last]})
    assert (await house.ask("GET", f"/v1/files/{done['file']['id']}/content")).content == b"123456"
    again = await house.ok("POST", f"/v1/uploads/{upload}/complete", json={"part_ids": [first, second, last]})
    assert again == done
    other = await house.ask("POST", f"/v1/uploads/{upload}/complete", json={"part_ids": [second, first, last]})
    assert other.status_code == 409
    assert (await house.part(upload, b"78")).status_code == 409


@on_both
async def test_two_who_complete_at_once_get_one_file(house: House):
    upload = await house.begun(4)
    part = (await house.part(upload, b"part")).json()["id"]
    path, body = f"/v1/uploads/{upload}/complete", {"part_ids": [part]}
    answers = await asyncio.gather(*(house.ok("POST", path, json=body) for _ in range(3)))
    assert len({answer["file"]["id"] for answer in answers}) == 1
    assert len(house.stored()) == 1
    assert await house.told() == ["file.created"]


@on_both
async def test_who_is_overtaken_by_the_same_completion_gets_the_same_file(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await house.begun(4)
    part = (await house.part(upload, b"part")).json()["id"]
    path, body = f"/v1/uploads/{upload}/complete", {"part_ids": [part]}
    choose = uploading._chosen
    faster: list[Any] = []

    async def late(*asked: Any) -> Any:
        if not faster:
            faster.append(None)
            faster[0] = await house.ok("POST", path, json=body)
        return await choose(*asked)

    monkeypatch.setattr(uploading, "_chosen", late)
    assert await house.ok("POST", path, json=body) == faster[0]
    assert len(house.stored()) == 1
    assert await house.told() == ["file.created"]


async def test_a_completion_that_is_wrong_is_refused_and_can_be_mended(house: House):
    upload = await house.begun(6)
    ids = [(await house.part(upload, data)).json()["id"] for data in (b"123", b"456", b"45")]
    path = f"/v1/uploads/{upload}/complete"
    for body, param in (
        ({"part_ids": ids[:1]}, "part_ids"), ({"part_ids": [ids[0], ids[0]]}, "part_ids"), ({"part_ids": []}, "part_ids"),
        ({"part_ids": ["part_" + "0" * 32]}, "part_ids"), ({"part_ids": ids[:2], "md5": "0" * 32}, "md5"),
        ({"part_ids": ids[:2], "md5": "xyz"}, "md5"), ({}, "part_ids"), ({"part_ids": ids[:2], "size": 6}, "size"),
    ):  # fmt: skip
        answer = await house.ask("POST", path, json=body)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), (body, answer.text)
    done = await house.ok("POST", path, json={"part_ids": ids[:2]})
    assert done["file"]["bytes"] == 6
    assert len(house.stored()) == 1


async def test_parts_are_bounded_in_size_and_number(house: House):
    upload = await house.begun(4 * MIB)
    answer = await house.part(upload, b"x" * (2 * MIB + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "part_too_large")
    assert (await house.part(upload, b"")).status_code == 400
    for _ in range(4):
        assert (await house.part(upload, b"x")).status_code == 200
    answer = await house.part(upload, b"x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "upload_full")
    small = await house.begun(2)
    assert (await house.part(small, b"12345")).status_code == 400
    assert len(house.stored()) == 4


@on_both
async def test_an_upload_expires_and_gives_its_room_back(house: House):
    upload = await house.begun(4 * MIB)
    part = (await house.part(upload, b"part")).json()["id"]
    house.clock += house.settings.upload_s
    assert (await house.part(upload, b"part")).status_code == 409
    assert (await house.ask("POST", f"/v1/uploads/{upload}/complete", json={"part_ids": [part]})).status_code == 409
    assert (await house.ok("GET", f"/v1/uploads/{upload}"))["status"] == "expired"
    await house.sweep()
    assert house.stored() == []
    assert await house.begun(4 * MIB)
    house.clock += house.settings.ended_upload_kept_s + 1
    await house.sweep()
    assert (await house.ask("GET", f"/v1/uploads/{upload}")).status_code == 404


BAD = (
    ({"bytes": 0}, "bytes"), ({"bytes": -1}, "bytes"), ({"bytes": "5"}, "bytes"), ({"bytes": True}, "bytes"),
    ({"bytes": 5 * MIB}, "bytes"), ({"purpose": "x"}, "purpose"), ({"purpose": "batch_output"}, "purpose"),
    ({"filename": ""}, "filename"), ({"filename": None}, "filename"), ({"tenant": "tenant_e"}, "tenant"),
    ({"expires_after": {"anchor": "created_at", "seconds": 5}}, "expires_after.seconds"),
    ({"expires_after": {"anchor": "now", "seconds": 5000}}, "expires_after.anchor"),
)  # fmt: skip


async def test_bad_announcements_are_a_400_that_names_the_parameter(house: House):
    good = {"bytes": 1, "filename": "a", "mime_type": "text/plain", "purpose": "user_data"}
    for change, param in BAD:
        answer = await house.ask("POST", "/v1/uploads", json={**good, **change})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), (change, answer.text)
