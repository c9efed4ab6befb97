"""A file is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import os
import stat

import pytest

from cordee.adapters.durable import locked, replace


def test_content_and_mode_are_what_was_asked_for_whatever_the_umask(tmp_path):
    path = tmp_path / "f"
    before = os.umask(0o777)
    try:
        replace(path, b"one")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_full_disk_leaves_the_old_content_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "f"
    replace(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_a_link_planted_where_the_part_goes_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"keep")
    (tmp_path / "f.part").symlink_to(victim)
    replace(tmp_path / "f", b"new")
    assert victim.read_bytes() == b"keep"


def test_a_lock_is_free_again_after_the_block(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "lock"):
            pass
