"""A restore and a backup that are killed at any place: nothing half is taken for whole, and the next one ends right."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cordee.compose.saving.mark import MARK
from cordee.config.load import load
from cordee.config.tree import Config
from tests.compose.saving.installation import databases_of, everything, made, words
from tests.rig import NOT_SETTINGS

pytestmark = pytest.mark.e2e
BEFORE = "ck-of-before"
ANSWER_S = 60.0
RESTORES = (
    ("restore lays out", 3),
    ("restore names the life", 1),
    ("restore moves", 2),  # half of what was there is aside
    ("restore moves", 4),  # half of what was saved is in its place
    ("restore has moved", 1),
)
BACKUPS = (("backup adds", 3), ("backup adds", 8), ("backup names", 1))


def killed(*lives: tuple[str, int, list[str]]) -> None:
    """Each of the commands dies at its place."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_SETTINGS}
    done = subprocess.run(
        [sys.executable, "-m", "tests.compose.saving.dying"], input=json.dumps(lives), capture_output=True, text=True,
        env=environment, timeout=ANSWER_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [-signal.SIGKILL] * len(lives), done.stderr


def up_refuses(data: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in NOT_SETTINGS}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "cordee.cli", "up", "--data", str(data)], capture_output=True, text=True,
        env=environment, timeout=ANSWER_S, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout
    assert "cordee restore` again with --force" in done.stderr


def test_a_restore_that_was_killed_is_seen_and_begun_anew(saved: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    before, archive = saved
    places = [tmp_path / f"data-{number}" for number in range(len(RESTORES))]
    for data in places:
        (data / "services").mkdir(parents=True)
        (data / "admin.key").write_text(BEFORE)
        (data / "services" / "internal.secret").write_bytes(b"of before")
    killed(
        *(
            (function, at, ["restore", str(archive), "--data", str(data), "--force"])
            for (function, at), data in zip(RESTORES, places, strict=True)
        )
    )
    up_refuses(places[2])
    for data in places:
        assert (data / MARK).is_dir(), data
        assert words("restore", archive, "--data", data) == 1  # not without being told so
        assert words("restore", archive, "--data", data, "--force") == 0
        assert not (data / MARK).exists()
        assert everything(Config(), data) == before
        assert BEFORE in [file.read_text() for file in data.glob("before-restore-*/admin.key")], "nothing is deleted"


def test_a_restore_into_postgresql_that_was_killed_is_begun_anew(postgres_url: str, tmp_path: Path) -> None:
    made(tmp_path / "data", databases_of(postgres_url, ("accounts",)))
    config = load(None, tmp_path / "data", environ={})
    before = everything(config, tmp_path / "data")
    assert words("backup", tmp_path / "b", "--data", tmp_path / "data") == 0
    again = tmp_path / "again"
    again.mkdir()
    shutil.copy(tmp_path / "data" / "cordee.toml", again)
    killed(("restore fills a table", 5, ["restore", str(tmp_path / "b"), "--data", str(again), "--force"]))
    assert (again / MARK).is_dir()
    assert words("restore", tmp_path / "b", "--data", again, "--force") == 0
    assert everything(config, again) == before


def test_a_backup_that_was_killed_is_none(saved: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    before, archive = saved
    data = archive.parent / "data"
    secret = tmp_path / "secret"
    secret.write_text("correct horse battery staple\n")
    sealed = ["--passphrase-file", str(secret)]
    cases = [
        (function, at, tmp_path / f"{number}{len(more)}", more)
        for number, (function, at) in enumerate(BACKUPS)
        for more in ([], sealed)
    ]
    killed(*((function, at, ["backup", str(place), "--data", str(data), *more]) for function, at, place, more in cases))
    for function, _, place, more in cases:
        assert not place.exists()
        (part,) = tmp_path.glob(f"{place.name}.*.part")
        again = tmp_path / f"again-{place.name}"
        if function != "backup names":  # then only its name was missing
            assert words("restore", part, "--data", again, *more) == 1
            assert not again.exists()
        assert words("backup", place, "--data", data, *more) == 0
    assert words("restore", cases[-1][2], "--data", tmp_path / "again", *sealed) == 0
    assert everything(Config(), tmp_path / "again") == before
    assert [one.name for one in (data / "run").iterdir()] == ["backup.lock"], (
        "what the killed ones had laid out is gone"
    )
