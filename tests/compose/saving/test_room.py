"""A backup or a restore that does not fit is refused before anything is written."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.compose.saving import databases, room
from cordee.compose.saving.problem import SavingError
from cordee.compose.saving.room import Need, check, said
from cordee.compose.service_apps import kept
from cordee.config.tree import Config
from tests.compose.saving.installation import FILES, databases_of, everything, made, words
from tests.rig import NOT_SETTINGS

MIB = 1 << 20
ANSWER_S = 60.0
Usage = namedtuple("Usage", "total used free")  # of shutil.disk_usage


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Of every disk; None of it is asked."""
    holds = {"bytes": 0}
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, holds["bytes"]))
    return holds


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1025, "1.1 KiB"), (MIB - 1, "1.0 MiB"), (MIB, "1.0 MiB"),
     (3 * MIB // 2, "1.5 MiB"), (5 << 30, "5.0 GiB"), (1 << 60, "1048576.0 TiB")],
)  # fmt: skip
def test_sizes_are_said_for_people(size: int, words: str) -> None:
    assert said(size) == words


@given(size=st.integers(0, 1 << 50))
def test_a_file_takes_whole_blocks_and_never_less_than_it_holds(size: int) -> None:
    assert room.on_disk(size) > size
    assert room.on_disk(size) % 4096 == 0


def test_what_goes_to_one_disk_is_added_up_and_a_folder_need_not_exist(tmp_path: Path, free: dict[str, int]) -> None:
    needs = [Need(tmp_path / "not" / "yet", 3 * MIB, "the backup"), Need(tmp_path, 2 * MIB, "a copy")]
    free["bytes"] = 5 * MIB
    check(needs)
    free["bytes"] -= 1
    with pytest.raises(
        SavingError, match=r"has 5\.0 MiB free, and the backup and a copy may need 5\.0 MiB there: free 1 bytes"
    ):
        check(needs)


def test_a_restore_that_does_not_fit_touches_nothing_and_names_both_sizes(
    saved: tuple[dict[str, Any], Path], tmp_path: Path, free: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    before, archive = saved
    data = tmp_path / "data"
    data.mkdir()
    (data / "admin.key").write_text("another one")
    free["bytes"] = MIB
    assert words("restore", archive, "--data", data, "--force") == 1
    error = capsys.readouterr().err
    assert f"{data} has 1.0 MiB free, and what the backup holds may need " in error
    assert "--ignore-free-space" in error
    assert {one.name for one in data.iterdir()} <= {"admin.key", "log", "run"}
    assert (data / "admin.key").read_text() == "another one"
    assert words("restore", archive, "--data", data, "--force", "--ignore-free-space") == 0
    assert everything(Config(), data) == before


def test_a_backup_that_does_not_fit_leaves_nothing_and_can_be_tried_all_the_same(
    saved: tuple[dict[str, Any], Path], tmp_path: Path, free: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    data = saved[1].parent / "data"
    place = tmp_path / "new" / "saved.tar.gz"
    free["bytes"] = MIB
    assert words("backup", place, "--data", data) == 1
    assert (
        f"{place.parent} has 1.0 MiB free, and the backup and a copy of a database beside it may need"
        in capsys.readouterr().err
    )
    assert not place.parent.exists()
    assert words("backup", place, "--data", data, "--ignore-free-space") == 0
    free["bytes"] = 1 << 40
    assert words("backup", tmp_path / "again.tar.gz", "--data", data) == 0


@pytest.mark.e2e
def test_what_postgresql_holds_is_counted(postgres_url: str, tmp_path: Path) -> None:
    config = made(tmp_path / "data", databases_of(postgres_url))
    for one in kept(config.services):
        size = asyncio.run(databases.size(one, tmp_path / "data"))
        assert 0 < size.copied <= size.whole
        assert (size.copied < size.whole) == bool(one.database.url), "of a PostgreSQL one table at a time is copied"


INSIDE = """
mount -t tmpfs -o size=%d none "$1" && shift && exec "$@"
"""


def small_disk(at: Path, bytes_: int, *command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command where a disk of that size is mounted."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_SETTINGS}
    return subprocess.run(
        ["unshare", "-rm", "sh", "-ec", INSIDE % bytes_, "sh", at, *command],
        capture_output=True, text=True, env=environment, timeout=ANSWER_S, check=False,
    )  # fmt: skip


@pytest.mark.e2e
def test_on_a_disk_that_is_really_too_small_both_are_refused_and_on_one_that_is_not_they_work(
    saved: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with contextlib.suppress(OSError):
        if small_disk(disk, MIB, "true").returncode:
            pytest.skip("a small disk needs a user namespace in which one may mount it")
    cordee = (sys.executable, "-m", "cordee.cli")
    held = sum(room.on_disk(len(content)) for content in FILES.values())
    restoring = ("restore", str(saved[1]), "--data", str(disk / "again"))
    refused = small_disk(disk, held, *cordee, *restoring)
    assert refused.returncode == 1, refused.stderr
    assert " free, and what the backup holds may need " in refused.stderr
    script = f'"$@" && ls {disk}/again && exec {sys.executable} -m cordee.cli backup {disk}/b --data {disk}/again'
    both = small_disk(disk, 16 * MIB, "sh", "-c", script, "sh", *cordee, *restoring)
    assert both.returncode == 0, both.stderr
    assert "admin.key" in both.stdout
    data = saved[1].parent / "data"
    full = small_disk(disk, MIB, *cordee, "backup", str(disk / "b"), "--data", str(data))
    assert full.returncode == 1
    assert f"{disk} has " in full.stderr
    assert "the backup may need" in full.stderr
