from __future__ import annotations

from pathlib import Path

import pytest

from cordee.adapters import known_answers


def test_answers_are_read_as_they_were_written_and_added_to(tmp_path: Path):
    assert known_answers.read(tmp_path) == {}
    known_answers.write(tmp_path, {"f": (1, 2)})
    known_answers.write(tmp_path, {"g": (3,)})
    assert known_answers.read(tmp_path) == {"f": (1, 2), "g": (3,)}
    assert (tmp_path / known_answers.FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"f": "x"}', b'{"f": [1.5]}', b"\xff"])
def test_what_is_no_file_of_answers_is_as_if_it_was_not_there(tmp_path: Path, content: bytes):
    (tmp_path / known_answers.FILE).write_bytes(content)
    assert known_answers.read(tmp_path) == {}
    known_answers.write(tmp_path, {"f": (1,)})
    assert known_answers.read(tmp_path) == {"f": (1,)}


def test_a_directory_that_cannot_be_written_is_no_error(tmp_path: Path):
    known_answers.write(tmp_path / "nowhere", {"f": (1,)})
