"""One suite for every place where contents may lie: a directory, and a bucket of a real S3 server (marked e2e)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from cordee.config.sections.services import Bucket, Files
from cordee.services.base.database import DatabaseError
from cordee.services.files.storage import MissingError, Storage, StorageAwayError, StorageFullError, open_storage
from tests.services.files.conftest import MIB, House

pytestmark = pytest.mark.anyio
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
on_each = pytest.mark.parametrize(
    "storage", ["directory", pytest.param("bucket", marks=pytest.mark.e2e)], indirect=True
)
NAME = "blob_" + "0" * 30 + "ab"


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    # Imported here, because it takes longer than all tests that do without it.
    from moto.server import ThreadedMotoServer  # noqa: PLC0415

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    httpx.put(f"http://{host}:{port}/files").raise_for_status()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "directory":
        return open_storage(Files(), tmp_path, {})
    bucket = Bucket(url=f"s3://files/{os.urandom(4).hex()}", endpoint=request.getfixturevalue("s3"), retries=0)
    return open_storage(Files(bucket=bucket), tmp_path, KEYS)


async def pieces(*given: bytes, fails: bool = False) -> AsyncIterator[bytes]:
    for piece in given:
        yield piece
    if fails:
        raise KeyError("the client went away")


async def all_of(storage: Storage, start: int, stop: int) -> bytes:
    return b"".join([piece async for piece in storage.read(NAME, start, stop)])


@on_each
async def test_what_is_written_is_read_in_any_range(storage: Storage):
    content = os.urandom(13 * MIB + 7)  # more than two of S3's pieces
    await storage.write(NAME, pieces(*(content[at : at + MIB] for at in range(0, len(content), MIB))))
    assert await all_of(storage, 0, len(content)) == content
    assert await all_of(storage, 5 * MIB - 1, 5 * MIB + 1) == content[5 * MIB - 1 : 5 * MIB + 1]


@on_each
async def test_what_breaks_off_is_not_there(storage: Storage):
    with pytest.raises(KeyError):
        await storage.write(NAME, pieces(b"x" * MIB, b"y" * 7 * MIB, fails=True))
    with pytest.raises(MissingError):
        await all_of(storage, 0, 1)


@on_each
async def test_deleting_is_the_same_twice(storage: Storage):
    await storage.write(NAME, pieces(b"x"))
    await storage.delete(NAME)
    await storage.delete(NAME)
    with pytest.raises(MissingError):
        await all_of(storage, 0, 1)


async def test_half_a_content_that_a_crash_left_is_deleted_with_its_name(tmp_path: Path):
    storage = open_storage(Files(), tmp_path, {})
    half = tmp_path / "services" / "files" / "ab" / f"{NAME}#1"
    half.parent.mkdir()
    half.write_bytes(b"half")
    await storage.delete(NAME)
    assert not half.exists()


async def test_a_bucket_that_is_away_or_not_there_is_storage_that_is_away(tmp_path: Path):
    bucket = Bucket(url="s3://files", endpoint="http://127.0.0.1:9", retries=0, connect_s=1)
    storage = open_storage(Files(bucket=bucket), tmp_path, KEYS)
    with pytest.raises(StorageAwayError):
        await storage.write(NAME, pieces(b"x"))
    with pytest.raises(StorageAwayError):
        await storage.delete(NAME)
    with pytest.raises(DatabaseError, match="AWS_ACCESS_KEY_ID"):
        open_storage(Files(bucket=bucket), tmp_path, {})


@pytest.mark.e2e
@pytest.mark.parametrize(
    "settings", [Files(free_bytes_min=0), Files(free_bytes_min=64 * MIB)], indirect=True, ids=["full", "nearly full"]
)
async def test_a_full_disk_is_a_507_and_keeps_no_half_file(house: House, tmp_path: Path):
    root = tmp_path / "services" / "files"
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk can be mounted by root only")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", root], check=False).returncode:
        pytest.skip("this machine does not let a small disk be mounted")
    try:
        answer = await house.put(os.urandom(6 * MIB))
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "storage_full"), answer.text
        assert answer.headers["retry-after"]
        assert house.stored() == []
        if house.settings.free_bytes_min == 0:
            assert (await house.put(b"a small one")).status_code == 200
    finally:
        subprocess.run(["umount", root], check=True)


async def test_a_disk_that_has_hardly_room_left_is_full(tmp_path: Path):
    with pytest.raises(StorageFullError, match="free_bytes_min"):
        await open_storage(Files(free_bytes_min=1 << 40), tmp_path, {}).need_room()


@pytest.mark.e2e
async def test_the_whole_service_keeps_its_files_in_a_bucket(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    house = House(
        Files(bucket=Bucket(url="s3://files/whole", endpoint=s3, retries=0), part_bytes_max=8 * MIB), tmp_path
    )
    content = os.urandom(12 * MIB + 3)
    async with house.app.router.lifespan_context(house.app), house.client:
        made = await house.made(content)
        path = f"/v1/files/{made['id']}/content"
        assert (await house.ask("GET", path)).content == content
        part = await house.ask("GET", path, headers={"range": "bytes=5242879-5242881"})
        assert part.content == content[5_242_879:5_242_882]
        upload = await house.begun(len(content))
        ids = [(await house.part(upload, content[at : at + 8 * MIB])).json()["id"] for at in (0, 8 * MIB)]
        done = await house.ok("POST", f"/v1/uploads/{upload}/complete", json={"part_ids": ids})
        assert (await house.ask("GET", f"/v1/files/{done['file']['id']}/content")).content == content
        for one in (made["id"], done["file"]["id"]):
            await house.ok("DELETE", f"/v1/files/{one}")
    assert "<Contents>" not in httpx.get(f"{s3}/files?prefix=whole").text
