from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect

from cordee.config.sections.services import DatabaseSettings, Encryption, Files, Scanner
from cordee.services.base.database import Database
from cordee.services.base.migrate import HEAD, NOTHING, migrate
from cordee.services.files.app import HISTORY
from cordee.services.files.records import Blob
from cordee.services.files.storage import StorageAwayError
from cordee.services.files.store import blobs
from cordee.services.files.tables import metadata
from tests.services import on_both
from tests.services.files.conftest import ADA, MIB, SMALL, House

pytestmark = pytest.mark.anyio
EICAR = b"the scanner's test pattern"


@on_both
async def test_the_newest_revision_is_what_the_code_says_and_goes_back(database: Database):
    await migrate(database, HISTORY, metadata, 30.0)

    def differences(on: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(on, opts={"compare_type": True}), metadata))

    async with database.reading() as on:
        assert await on.run_sync(differences) == []
    await migrate(database, HISTORY, metadata, 30.0, NOTHING)
    async with database.reading() as on:
        assert await on.run_sync(lambda sync: inspect(sync).get_table_names()) == ["alembic_version"]
    await migrate(database, HISTORY, metadata, 30.0, HEAD)


@on_both
async def test_what_a_crash_left_behind_is_removed_when_its_lease_has_ended(house: House):
    blob = Blob("blob_" + "1" * 32, 0, None, None)
    async with house.database.writing() as on:
        await blobs.begin(on, blob, "tenant_a", house.clock + 300)

    async def content() -> AsyncIterator[bytes]:
        yield b"half of something"

    await house.service.storage.write(blob.name, content())
    await house.sweep()
    assert len(house.stored()) == 1
    house.clock += 301
    await house.sweep()
    assert house.stored() == []
    async with house.database.writing() as on:
        assert not await blobs.keep(on, blob.name, 17)


@on_both
async def test_who_was_given_up_cannot_keep_what_is_being_removed(house: House):
    async def slow() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        yield b"x" * MIB
        house.clock += 1000
        await house.sweep()
        house.clock -= 1000
        yield b'x\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--b--\r\n'

    answer = await house.ask(
        "POST", "/v1/files", content=slow(), headers={"content-type": "multipart/form-data; boundary=b"}
    )
    # Whichever notices first: the library whose half was taken away, or the book that says whose it is.
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] in ("upload_given_up", "storage_away")
    await house.sweep()
    assert house.stored() == []
    assert (await house.ok("GET", "/v1/files"))["data"] == []


@on_both
async def test_an_expired_file_is_gone_at_once_and_its_bytes_soon(house: House):
    fields = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    made = (await house.put(b"x", ADA, "a.txt", "text/plain", **fields)).json()
    house.clock += 3600
    assert (await house.ask("GET", f"/v1/files/{made['id']}")).status_code == 404
    assert (await house.ok("GET", "/v1/files"))["data"] == []
    await asyncio.gather(house.sweep(), house.sweep())
    assert house.stored() == []
    assert await house.told() == ["file.created", "file.deleted"]
    async with house.database.reading() as on:
        assert (await on.exec_driver_sql("SELECT bytes, files FROM usage")).one() == (0, 0)


async def test_a_database_that_is_away_takes_no_upload_and_leaves_nothing(data: Path):
    house = House(msgspec.structs.replace(SMALL, database=DatabaseSettings(wait_s=2.0)), data)
    async with house.app.router.lifespan_context(house.app), house.client:
        async with house.database.writing():  # a writer who does not end
            answer = await house.put(b"x")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_away")
        assert answer.headers["retry-after"] == "2"
        assert house.stored() == []
        assert (await house.put(b"x")).status_code == 200


async def test_a_storage_that_is_away_is_a_503_and_nothing_counts(house: House, monkeypatch: pytest.MonkeyPatch):
    async def away(*_: object) -> None:
        raise StorageAwayError("the storage of files does not answer as it should.")

    with monkeypatch.context() as patched:
        patched.setattr(house.service.storage, "write", away)
        patched.setattr(house.service.storage, "delete", away)
        answer = await house.put(b"x")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_away")
    made = await house.made(b"x")
    with monkeypatch.context() as patched:
        patched.setattr(house.service.storage, "delete", away)
        assert (await house.ask("DELETE", f"/v1/files/{made['id']}")).status_code == 200
    assert len(house.stored()) == 1
    await house.sweep()
    assert house.stored() == []


async def test_a_content_that_was_changed_on_the_disk_is_never_given_back(house: House):
    made = await house.made(b"x" * 100)
    (path,) = house.stored()
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    answer = await house.ask("GET", f"/v1/files/{made['id']}/content")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "content_damaged")
    path.write_bytes(b"")
    assert (await house.ask("GET", f"/v1/files/{made['id']}/content")).status_code == 500
    path.unlink()
    assert (await house.ask("GET", f"/v1/files/{made['id']}/content")).status_code == 500


@pytest.mark.parametrize(
    "settings", [msgspec.structs.replace(SMALL, encryption=Encryption(enabled=False))], indirect=True
)
async def test_encryption_can_be_switched_off_and_ranges_work(house: House):
    made = await house.made(b"0123456789")
    assert house.stored()[0].read_bytes() == b"0123456789"
    answer = await house.ask("GET", f"/v1/files/{made['id']}/content", headers={"range": "bytes=3-5"})
    assert answer.content == b"345"


@pytest.mark.parametrize("settings", [msgspec.structs.replace(SMALL, transfers_max=1)], indirect=True)
async def test_there_is_a_most_of_uploads_at_once(house: House):
    async def form() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nx'
        answer = await house.put(b"x")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many_uploads")
        yield b'\r\n--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--b--\r\n'

    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert (await house.ask("POST", "/v1/files", content=form(), headers=headers)).status_code == 200
    assert (await house.put(b"x")).status_code == 200


FINDS = "import sys; sys.exit(b'test pattern' in sys.stdin.buffer.read())"


def _scanned(scanner: Scanner) -> Files:
    return msgspec.structs.replace(SMALL, scanner=scanner)


@pytest.mark.parametrize("settings", [_scanned(Scanner(command=(sys.executable, "-c", FINDS)))], indirect=True)
async def test_a_command_that_finds_something_keeps_it_out(house: House):
    answer = await house.put(EICAR)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "infected")
    assert house.stored() == []
    upload = await house.begun(len(EICAR))
    ids = [(await house.part(upload, data)).json()["id"] for data in (EICAR[:9], EICAR[9:])]
    assert (await house.ask("POST", f"/v1/uploads/{upload}/complete", json={"part_ids": ids})).status_code == 400
    assert (await house.put(b"clean")).status_code == 200


@pytest.mark.parametrize("is_required", [True, False])
async def test_without_a_verdict_the_settings_decide(is_required: bool, data: Path):
    for scanner in (
        Scanner(command=("/nowhere/scanner",), is_required=is_required), Scanner(clamd="127.0.0.1:9", is_required=is_required),
        Scanner(clamd=f"unix:{data}/none", is_required=is_required),
        Scanner(command=(sys.executable, "-c", "raise SystemExit(2)"), is_required=is_required),
    ):  # fmt: skip
        house = House(_scanned(scanner), data)
        async with house.app.router.lifespan_context(house.app), house.client:
            answer = await house.put(b"x")
        assert answer.status_code == (503 if is_required else 200), scanner
        if is_required:
            assert (answer.json()["error"]["code"], answer.headers["retry-after"]) == ("scanner_away", "5")


async def test_a_clamd_is_asked_in_its_own_protocol(data: Path):
    async def clamd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(10) == b"zINSTREAM\0"
        seen = b""
        while size := int.from_bytes(await reader.readexactly(4), "big"):
            seen += await reader.readexactly(size)
        writer.write(b"stream: Eicar-Test FOUND\0" if EICAR in seen else b"stream: OK\0")
        writer.close()

    path = data / "clamd"
    async with await asyncio.start_unix_server(clamd, path):
        house = House(_scanned(Scanner(clamd=f"unix:{path}")), data)
        async with house.app.router.lifespan_context(house.app), house.client:
            assert (await house.put(b"x" * 2 * MIB)).status_code == 200
            answer = await house.put(b"x" * 2 * MIB + EICAR)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "infected")
