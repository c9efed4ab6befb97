"""Clients learn which file is at fault, not where it lies."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.gateway.withheld import without_paths


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("/srv/models/a.gguf is not a whole GGUF file: it ends early", "a.gguf is not a whole GGUF file: it ends early"),
        ("/srv/my models/a.gguf: cannot be read: Permission denied", "a.gguf: cannot be read: Permission denied"),
        ("[Errno 2] No such file or directory: '/srv/my models/a b.gguf'", "[Errno 2] No such file or directory: 'a b.gguf'"),
        ('neither "/a/b" nor "/c/d/" is there', 'neither "b" nor "d" is there'),
        ("it lies in (/srv/models), a directory", "it lies in (models), a directory"),
        ("/a.gguf needs 5 MiB (3 weights, 1 cache)", "a.gguf needs 5 MiB (3 weights, 1 cache)"),
        ("12 tokens/s and https://example.org/a/b stay", "12 tokens/s and https://example.org/a/b stay"),
        ("its file is cut off", "its file is cut off"),
        ("", ""),
    ],
)  # fmt: skip
def test_of_a_path_its_last_part_is_told(said: str, told: str) -> None:
    assert without_paths(said) == told


@given(st.lists(st.text("abc de.-_", min_size=1, max_size=8).filter(str.strip), min_size=1, max_size=5))
def test_no_directory_is_told(parts: list[str]) -> None:
    path = "".join("/" + part for part in parts) + "/m.gguf"
    assert without_paths(f"{path} is not whole") == "m.gguf is not whole"
    assert without_paths(f"no such file: '{path}'") == "no such file: 'm.gguf'"
