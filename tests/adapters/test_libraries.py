from __future__ import annotations

from pathlib import Path

import pytest

from cordee.adapters import libraries
from cordee.adapters.libraries import library_directory
from cordee.kernels.library import KernelsError


def test_the_setting_goes_before_everything(tmp_path: Path):
    assert library_directory(str(tmp_path), tmp_path / "cache") == tmp_path


def test_without_any_library_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(libraries, "installed_directory", lambda: None)
    with pytest.raises(KernelsError, match=r"make up.*engine\.library"):
        library_directory("", tmp_path)


def test_an_installed_one_serves_where_none_was_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(libraries, "installed_directory", lambda: tmp_path / "lib")
    assert library_directory("", tmp_path / "cache") == tmp_path / "lib"
