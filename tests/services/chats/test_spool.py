"""The spool on disk, by itself."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cordee.config.sections.services import Spool as SpoolSettings
from cordee.services.chats.spool import Spool, SpoolError

SETTINGS = SpoolSettings(bytes_max=1_048_576, segment_bytes=65_536)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool", SETTINGS)
    yield made
    made.close()


def _all(spool: Spool) -> list[bytes]:
    spool.close()
    found: list[bytes] = []
    with spool.taking() as segments:
        for segment in segments:
            found += spool.entries(segment)
            spool.taken(segment)
    return found


def test_entries_come_back_in_order_and_once(spool: Spool):
    assert spool.is_empty
    entries = [f'["{number}"]'.encode() for number in range(50)]
    spool.add(entries[:20])
    spool.add(entries[20:])
    assert not spool.is_empty
    assert _all(spool) == entries
    assert spool.is_empty
    assert _all(spool) == []


def test_only_its_owner_may_read_it(spool: Spool, tmp_path: Path):
    spool.add([b"{}"])
    [segment] = (tmp_path / "spool").glob("*.jsonl")
    assert stat.S_IMODE(segment.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "spool").stat().st_mode) == 0o700


def test_a_full_spool_keeps_nothing_more_and_says_what_to_do(spool: Spool):
    spool.add([b"x" * 1_000_000])
    with pytest.raises(SpoolError, match=r"bytes_max"):
        spool.add([b"y" * 100_000])
    assert [len(entry) for entry in _all(spool)] == [1_000_000]
    spool.add([b"y" * 100_000])


def test_a_disk_that_fails_leaves_what_was_there(spool: Spool, monkeypatch: pytest.MonkeyPatch):
    spool.add([b"before"])
    write = os.write

    def half(descriptor: int, data: memoryview) -> int:
        write(descriptor, data[:3])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "write", half)
        with pytest.raises(SpoolError, match="No space left on device; free space"):
            spool.add([b"during"])
    spool.add([b"after"])
    assert _all(spool) == [b"before", b"after"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 60), flipped=st.none() | st.integers(0, 59))
def test_whatever_a_crash_leaves_only_whole_entries_count(tmp_path: Path, cut: int, flipped: int | None):
    folder = tmp_path / f"{cut}.{flipped}"
    spool = Spool(folder, SETTINGS)
    entries = [b"one", b"three", b"fifteen"]
    spool.add(entries)
    spool.close()
    [segment] = folder.glob("*.jsonl")
    content = bytearray(segment.read_bytes()[:cut])
    if flipped is not None and flipped < len(content):
        content[flipped] ^= 0x55
    segment.write_bytes(content)
    found = _all(spool)
    assert [entry for entry in entries if entry in found] == found


def test_a_segment_that_grows_is_left_to_its_process_and_a_dead_one_s_is_taken(tmp_path: Path):
    living, other = Spool(tmp_path, SETTINGS), Spool(tmp_path, SETTINGS)
    living.add([b"first"])
    assert _all(other) == []
    living.close()  # as the kernel does for the dead
    assert _all(other) == [b"first"]


def test_one_process_takes_at_a_time(tmp_path: Path):
    one, other = Spool(tmp_path, SETTINGS), Spool(tmp_path, SETTINGS)
    one.add([b"x"])
    one.close()
    with one.taking() as mine, other.taking() as theirs:
        assert (len(mine), len(theirs)) == (1, 0)
