"""The page of settings is the one that its script makes of the source."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cordee.config.describe import settings

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "configuration.md"


def test_the_page_of_settings_is_what_the_script_makes_of_the_source(tmp_path: Path) -> None:
    made = tmp_path / "configuration.md"
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([ROOT / "scripts" / "settings-doc", made], check=True, timeout=30, env=environment)
    assert made.read_text() == PAGE.read_text(), "run scripts/settings-doc"


def test_every_setting_has_its_line() -> None:
    page = PAGE.read_text()
    assert [key for key in settings() if f"`{key.rpartition('.')[2]}`" not in page and f"[{key}" not in page] == []
