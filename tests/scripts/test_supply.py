"""What is installed and run is what was looked at: by hash, by commit, and nothing that runs by itself (reliability of the supply)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_every_package_has_its_version_and_its_hashes(name: str) -> None:
    entries = re.split(r"\n(?=[a-zA-Z0-9])", (ROOT / name).read_text().replace("\\\n", " "))
    packages = [entry for entry in entries if not entry.startswith("#")]
    assert len(packages) > 20
    assert [entry for entry in packages if not re.match(r"\S+==\S+ .*--hash=sha256:[0-9a-f]{64}", entry)] == []


def test_every_foreign_action_is_named_by_its_commit() -> None:
    used = re.findall(r"uses: *(\S+)", "".join(file.read_text() for file in (ROOT / ".github").rglob("*.yml")))
    assert used
    assert [one for one in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", one)] == []


def test_nothing_in_the_package_runs_when_an_interpreter_starts() -> None:
    files = [path for path in (ROOT / "src").rglob("*") if path.is_file()]
    assert [
        path for path in files if path.suffix == ".pth" or path.name in ("sitecustomize.py", "usercustomize.py")
    ] == []
