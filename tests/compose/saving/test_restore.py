"""What was saved comes back into an empty installation, row by row and byte by byte, whatever it was kept in."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import httpx
import obstore
import pytest
from moto.server import ThreadedMotoServer
from obstore.store import S3Store

from cordee.compose.platform import run as run_platform
from cordee.compose.saving.mark import MARK
from cordee.compose.service_apps import kept
from cordee.config.load import load
from cordee.config.tree import Config
from cordee.services.base.database import connect
from cordee.supervisor.claim import Claim
from tests.compose.saving.installation import FILES, databases_of, epoch_of, everything, fill, made, words

PASSPHRASE = "correct horse battery staple"


def test_an_empty_installation_gets_everything_back(saved: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    before, archive = saved
    assert words("restore", archive, "--data", tmp_path / "again") == 0
    assert everything(Config(), tmp_path / "again") == before
    assert len(before["accounts"]["outbox"]) == 3
    assert not (tmp_path / "again" / "log" / "web-1.log").exists()
    assert not (tmp_path / "again" / MARK).exists()
    assert (tmp_path / "again" / "admin.key").stat().st_mode & 0o077 == 0
    # Gateways that followed the one before further than the backup goes must not take this for its going on.
    lives = {epoch_of(Config(), archive.parent / "data"), epoch_of(Config(), tmp_path / "again")}
    assert len(lives) == 2
    assert words("restore", archive, "--data", tmp_path / "again", "--force") == 0
    assert epoch_of(Config(), tmp_path / "again") not in lives
    assert not list((tmp_path / "again" / "services").glob("accounts.db-*")), "all of it is in the one file"


def test_an_encrypted_one_needs_its_passphrase(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "data")
    secret, other = tmp_path / "secret", tmp_path / "other"
    secret.write_text(PASSPHRASE + "\n")
    other.write_text("incorrect horse battery\n")
    archive = tmp_path / "sealed"
    assert words("backup", archive, "--data", tmp_path / "data", "--passphrase-file", secret) == 0
    assert b"ck-secret" not in archive.read_bytes()
    assert words("restore", archive, "--data", tmp_path / "again") == 1
    assert words("restore", archive, "--data", tmp_path / "again", "--passphrase-file", other) == 1
    assert "the passphrase is another one" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()
    assert words("restore", archive, "--data", tmp_path / "again", "--passphrase-file", secret) == 0


def test_what_is_there_is_never_overwritten_and_with_force_moved_aside(
    saved: tuple[dict[str, Any], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, archive = saved
    data = tmp_path / "data"
    data.mkdir()
    (data / "admin.key").write_text("another one")
    assert words("restore", archive, "--data", data) == 1
    assert "is not empty (admin.key)" in capsys.readouterr().err
    assert words("restore", archive, "--data", data, "--force") == 0
    assert everything(Config(), data) == before
    (aside,) = data.glob("before-restore-*")
    assert (aside / "admin.key").read_text() == "another one"


def test_a_damaged_backup_changes_nothing(
    saved: tuple[dict[str, Any], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    half = tmp_path / "half"
    half.write_bytes(saved[1].read_bytes()[:-2000])
    assert words("restore", half, "--data", tmp_path / "again") == 1
    assert "not whole" in capsys.readouterr().err
    assert not (tmp_path / "again").exists()


def test_a_backup_is_not_written_over_another_and_a_running_platform_not_restored_into(
    saved: tuple[dict[str, Any], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, archive = saved
    content = archive.read_bytes()
    assert words("backup", archive, "--data", archive.parent / "data") == 1
    assert "is there already" in capsys.readouterr().err
    assert archive.read_bytes() == content
    claim = Claim.take(tmp_path / "running")
    try:
        assert words("restore", archive, "--data", tmp_path / "running", "--force") == 1
    finally:
        claim.release()
    assert "already runs" in capsys.readouterr().err


def test_a_platform_does_not_start_on_half_a_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / MARK).mkdir()
    assert run_platform(Config(), tmp_path, Config) == 1
    assert "cordee restore` again with --force" in capsys.readouterr().err


def test_a_backup_of_a_newer_schema_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    config = made(data)

    async def newer() -> None:
        database = connect(config.services.files.database, "files", data)
        async with database.writing() as on:
            await on.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        await database.close()

    asyncio.run(newer())
    assert words("backup", tmp_path / "b", "--data", data) == 0
    assert words("restore", tmp_path / "b", "--data", tmp_path / "again") == 1
    assert "files at revision 9999, which this program does not know" in capsys.readouterr().err
    assert not (tmp_path / "again" / MARK).exists()
    assert words("migrate", "--check", "--data", data) == 1
    assert "9999, which this program does not know" in capsys.readouterr().out


@pytest.mark.e2e
def test_postgresql_comes_back_into_other_databases_and_goes_on_counting(
    postgres_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = made(tmp_path / "data", databases_of(postgres_url))
    before = everything(config, tmp_path / "data")
    assert words("backup", tmp_path / "b", "--data", tmp_path / "data") == 0
    again = tmp_path / "again"
    again.mkdir()
    assert words("restore", tmp_path / "b", "--data", again, "--config", tmp_path / "data" / "cordee.toml") == 1
    assert "is not empty" in capsys.readouterr().err
    shutil.rmtree(again)
    again.mkdir()
    (again / "cordee.toml").write_text(databases_of(postgres_url))
    assert words("restore", tmp_path / "b", "--data", again) == 0
    restored = load(None, again, environ={})
    assert everything(restored, again) == before
    assert epoch_of(restored, again) != epoch_of(config, tmp_path / "data")
    asyncio.run(fill(kept(restored.services)[-1], again))  # the next events get numbers that none has had
    assert words("restore", tmp_path / "b", "--data", again, "--force") == 0
    assert everything(restored, again) == before


@pytest.mark.e2e
def test_the_kind_of_database_is_not_changed_on_the_way(
    postgres_url: str, saved: tuple[dict[str, Any], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cordee.toml").write_text(databases_of(postgres_url))
    assert words("restore", saved[1], "--data", tmp_path) == 1
    assert "restore to the same kind" in capsys.readouterr().err


@pytest.mark.e2e
def test_backups_and_contents_of_files_lie_in_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    for name, value in {
        "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key", "AWS_REGION": "us-east-1", "AWS_ENDPOINT_URL": endpoint,
        "AWS_ALLOW_HTTP": "true",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    try:
        for bucket in ("backups", "origin", "other"):
            asyncio.run(_put_bucket(endpoint, bucket))
        origin = f'[services.files.bucket]\nurl = "s3://origin/files"\nendpoint = "{endpoint}"\n'
        made(tmp_path / "data", origin)
        objects = {"ab/blob_1ab": b"x" * 3_000_000, "cd/blob_2cd": b""}
        for name, content in objects.items():
            obstore.put(_bucket(endpoint, "origin", "files"), name, content)
        place = "s3://backups/daily/one"
        assert words("backup", place, "--data", tmp_path / "data") == 0
        assert words("backup", place, "--data", tmp_path / "data") == 1
        assert "is there already" in capsys.readouterr().err
        again = tmp_path / "again"
        again.mkdir()
        (again / "cordee.toml").write_text(origin.replace("origin", "other"))
        assert words("restore", place, "--data", again) == 0
        other = _bucket(endpoint, "other", "files")
        assert {name: bytes(obstore.get(other, name).bytes()) for name in objects} == objects
        assert (again / "admin.key").read_bytes() == FILES["admin.key"]
        shutil.rmtree(again)
        again.mkdir()
        (again / "cordee.toml").write_text(origin)
        assert words("restore", place, "--data", again) == 1
        assert "s3://origin/files is not empty" in capsys.readouterr().err
        assert words("restore", "s3://backups/none", "--data", tmp_path / "none") == 1
    finally:
        server.stop()


def _bucket(endpoint: str, bucket: str, prefix: str | None = None) -> S3Store:
    return S3Store(
        bucket, prefix=prefix, config={"endpoint": endpoint, "region": "us-east-1"}, client_options={"allow_http": True}
    )


async def _put_bucket(endpoint: str, bucket: str) -> None:
    async with httpx.AsyncClient() as client:
        signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=id/20261121/us-east-1/s3/aws4_request"}
        (await client.put(f"{endpoint}/{bucket}", headers=signed)).raise_for_status()
