from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cordee.config.sections.services import DatabaseSettings

LIVES_MIN = 5  # fewer would mean that hardly anything was killed
PATIENCE_S = 60.0


@pytest.mark.e2e
@pytest.mark.parametrize("database_settings", ["sqlite", "postgresql"], indirect=True)
def test_a_saga_killed_at_every_point_has_every_effect_once_and_in_order(
    database_settings: DatabaseSettings, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.services.base.dying", str(tmp_path), database_settings.url],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    lives, log = json.loads(done.stdout)
    assert lives >= LIVES_MIN
    assert log == {
        "done": ["a", "b", "c", "ended done"],
        "undone": ["a", "b", "c", "unc", "unb", "una", "ended failed"],
    }
