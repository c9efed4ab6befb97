"""Who owns a key is answered from memory, follows the file, and survives a broken one."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import re
import stat
from pathlib import Path

import pytest

from cordee.adapters.keyring import KeysError, Standing, create_key, read_keys, revoke_key
from cordee.adapters.keys import FileDirectory, admin_key, ensure_admin_key
from cordee.domain.call import Priority
from cordee.domain.caller import EVERY_SCOPE, USER_SCOPES, Allowances


def test_a_created_key_is_known_by_its_hash_alone(tmp_path):
    key, record = create_key(tmp_path, "alice", tenant="sales", allowances=Allowances(60, 4))
    assert re.fullmatch(r"ck-[A-Za-z0-9_-]{43}", key)
    stored = (tmp_path / "keys.json").read_text()
    assert key not in stored
    assert key[3:] not in stored
    assert hashlib.sha256(key.encode()).hexdigest() in stored
    assert stat.S_IMODE((tmp_path / "keys.json").stat().st_mode) == 0o600
    caller = FileDirectory(tmp_path, {}).identify(key.encode())
    assert caller == record.caller
    assert caller is not None
    assert (caller.tenant, caller.scopes, caller.allowances) == ("sales", USER_SCOPES, Allowances(60, 4))


@pytest.mark.parametrize("key", [b"", b"ck-", b"x" * 5000, b"\0", b"\xff\xfe", "é".encode()])
def test_what_is_no_key_is_nobody(tmp_path, key):
    ensure_admin_key(tmp_path)
    create_key(tmp_path, "alice")
    assert FileDirectory(tmp_path, {}).identify(key) is None


def test_the_admin_key_is_made_once_and_for_its_owner_only(tmp_path):
    data = tmp_path / "new" / "data"
    path = ensure_admin_key(data)
    key = path.read_text()
    assert re.fullmatch(r"ck-[A-Za-z0-9_-]{43}\n", key)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    path.chmod(0o644)
    assert ensure_admin_key(data).read_text() == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    caller = FileDirectory(data, {}).identify(key.strip().encode())
    assert caller is not None
    assert caller.scopes == EVERY_SCOPE


def test_the_environment_replaces_the_admin_key(tmp_path):
    path = ensure_admin_key(tmp_path)
    environ = {"CORDEE_ADMIN_KEY": "from outside é"}
    assert admin_key(tmp_path, environ) == "from outside é"
    directory = FileDirectory(tmp_path, environ)
    assert directory.identify("from outside é".encode()) is not None
    assert directory.identify(path.read_text().strip().encode()) is None
    with pytest.raises(KeysError, match="CORDEE_ADMIN_KEY: an admin key is 1 to 4096 printable characters") as caught:
        admin_key(tmp_path, {"CORDEE_ADMIN_KEY": "secret\nvalue"})
    assert "secret" not in str(caught.value)


def test_without_an_admin_key_nobody_is_admin_until_there_is_one(tmp_path):
    directory = FileDirectory(tmp_path, {})
    assert len(directory) == 0
    key = ensure_admin_key(tmp_path).read_text().strip()
    assert directory.refresh()
    assert directory.identify(key.encode()) is not None


@pytest.mark.parametrize("content", [b"", b"\n", b"a\nb\n", b"\xff", b"x" * 5000])
def test_a_broken_admin_key_is_refused_with_the_cure(tmp_path, content):
    (tmp_path / "admin.key").write_bytes(content)
    with pytest.raises(KeysError, match="move the file away"):
        ensure_admin_key(tmp_path)


def test_refresh_follows_the_file_and_reads_only_what_changed(tmp_path, monkeypatch):
    directory = FileDirectory(tmp_path, {})
    key, record = create_key(tmp_path, "alice")
    assert directory.refresh()
    assert directory.identify(key.encode()) is not None
    assert not directory.refresh()
    revoke_key(tmp_path, record.id)
    assert directory.refresh()
    assert directory.identify(key.encode()) is None


def test_a_broken_file_keeps_the_known_keys_and_says_so_once(tmp_path, caplog):
    key, _ = create_key(tmp_path, "alice")
    directory = FileDirectory(tmp_path, {})
    good = (tmp_path / "keys.json").read_bytes()
    with caplog.at_level(logging.INFO):
        for length in (0, 10, len(good) - 5):
            (tmp_path / "keys.json").write_bytes(good[:length])
            assert not directory.refresh()
        assert directory.identify(key.encode()) is not None
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        (tmp_path / "keys.json").write_bytes(good)
        assert directory.refresh()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    assert key not in caplog.text


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"version": 2, "keys": []}',
        '{"version": 1, "keys": [{}]}',
        '{"version": 1, "keys": [], "more": 1}',
        '{"version": 1, "keys": [{"id": "a", "digest": "zz", "tenant": "t", "name": "n"}]}',
        '{"version": 1, "keys": [{"id": "a", "digest": "'
        + "0" * 64
        + '", "tenant": "t", "name": "n", "scopes": ["root"]}]}',
        "[" * 100_000,
    ],
)
def test_a_file_that_is_no_key_file_is_refused_at_the_start(tmp_path, content):
    (tmp_path / "keys.json").write_text(content)
    with pytest.raises(KeysError, match=r"keys\.json"):
        FileDirectory(tmp_path, {})


@pytest.mark.parametrize("name", ["", "x" * 129, "a\nb", "\x1b[31m"])
def test_a_name_that_would_forge_a_log_line_is_refused(tmp_path, name):
    with pytest.raises(KeysError, match="1 to 128 printable characters"):
        create_key(tmp_path, name)
    assert not (tmp_path / "keys.json").exists()


def test_scopes_and_limits_are_checked(tmp_path):
    with pytest.raises(KeysError, match="allowed are inference, admin"):
        create_key(tmp_path, "a", scopes=("root",))
    with pytest.raises(KeysError, match="concurrent calls: 0"):
        create_key(tmp_path, "a", allowances=Allowances(None, 0))


def _create_many(data: Path) -> None:
    for number in range(10):
        create_key(data, f"k{number}")


def test_keys_made_by_several_processes_at_once_are_all_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # what is tested is the lock, not the disk
    processes = [multiprocessing.get_context("fork").Process(target=_create_many, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    records = read_keys(tmp_path)
    assert len(records) == 30
    assert len({record.id for record in records}) == 30


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written_says_so(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(KeysError, match="Permission denied"):
        create_key(tmp_path, "a")
    with pytest.raises(KeysError, match="Permission denied"):
        ensure_admin_key(tmp_path)


def test_a_key_file_of_before_there_were_budgets_is_read(tmp_path):
    key, record = create_key(tmp_path, "alice", allowances=Allowances(60, 4))
    old = {
        "id": record.id, "digest": record.digest, "tenant": "alice", "name": "alice", "scopes": ["inference"],
        "requests_per_minute": 60, "concurrent_calls": 4, "created": 1,
    }  # fmt: skip
    (tmp_path / "keys.json").write_text(json.dumps({"version": 1, "keys": [old]}))
    caller = FileDirectory(tmp_path, {}).identify(key.encode())
    assert caller is not None
    assert caller.allowances == Allowances(60, 4)
    assert caller.priority_max is Priority.INTERACTIVE


def test_a_key_may_have_a_region(tmp_path):
    key, _ = create_key(tmp_path, "alice", standing=Standing(region="eu-north-1"))
    caller = FileDirectory(tmp_path, {}).identify(key.encode())
    assert caller is not None
    assert caller.region == "eu-north-1"


@pytest.mark.parametrize("region", ["eu north", "EU", "a" * 64, "../x", "eu\n"])
def test_a_region_that_no_header_could_name_is_refused(tmp_path, region):
    with pytest.raises(KeysError, match="region"):
        create_key(tmp_path, "alice", standing=Standing(region=region))
