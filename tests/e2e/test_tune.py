"""`cordee models tune` on the default model: what it recommends can be used, and is what it writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.engine.real import real_library, real_model

pytestmark = [pytest.mark.e2e, pytest.mark.model, pytest.mark.timeout(300)]


def tune(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "cordee.cli", "models", "tune", "--data", str(directory), *arguments)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CORDEE_")}
    cache = {"CORDEE_CACHE": os.environ["CORDEE_CACHE"]} if "CORDEE_CACHE" in os.environ else {}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, cwd=directory, env={**environment, **cache}
    )


def test_what_is_recommended_is_written_and_nothing_else(tmp_path: Path) -> None:
    real_library()
    real_model()
    file = tmp_path / "cordee.toml"
    file.write_text("servers = 1  # mine\n\n[engine]\nslots = 1 # few\ncontext = 256\n")
    done = tune(tmp_path, "--seconds", "0.1", "--write")
    assert done.returncode == 0, done.stderr
    recommended = {
        name: int(value) for name, value in re.findall(r"^(\w+) = (\d+)$", done.stdout.partition("[engine]")[2], re.M)
    }
    assert set(recommended) == {"threads", "slots", "ubatch", "prefill_tokens_max"}
    text = file.read_text()
    assert "servers = 1  # mine\n" in text
    assert "# few\n" in text
    assert tomllib.loads(text)["engine"] == {"context": 256, **recommended}
    assert "a busy process" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (("oracle",), 1, "nothing that could be tuned"),
        (("--seconds", "99"), 2, "--seconds 99"),
        (("./no.gguf",), 1, "no.gguf"),
    ],
)
def test_what_cannot_be_tuned_says_why(tmp_path: Path, arguments: tuple[str, ...], status: int, word: str) -> None:
    done = tune(tmp_path, *arguments)
    assert done.returncode == status
    assert word in done.stderr
    assert "Traceback" not in done.stderr
