"""What was promised survives a restart, for its day only; a damaged book is an error because it stands for money."""

from __future__ import annotations

import pytest

from cordee.adapters.installation import installation
from cordee.adapters.spend_file import SpendFile


def test_what_was_written_counts_on_its_day(tmp_path):
    book = SpendFile(tmp_path, "web-1")
    assert book.read(5) == 0.0
    book.write(5, 1.25)
    assert SpendFile(tmp_path, "web-1").read(5) == 1.25
    assert book.read(6) == 0.0
    assert SpendFile(tmp_path, "web-2").read(5) == 0.0


def test_a_damaged_book_is_an_error(tmp_path):
    SpendFile(tmp_path, "a")
    (tmp_path / "spend" / "a.json").write_text("{")
    with pytest.raises(OSError, match="damaged"):
        SpendFile(tmp_path, "a").read(5)


def test_an_installation_has_one_name(tmp_path):
    name = installation(tmp_path)
    assert installation(tmp_path) == name
    assert len(name) == 16
