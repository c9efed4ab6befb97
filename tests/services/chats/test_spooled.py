"""What waits on disk is found by the stream that it tells of."""

from __future__ import annotations

import threading
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cordee.config.sections.services import Spool as SpoolSettings
from cordee.services.chats.spool import Spool
from cordee.services.chats.spooled import Spooled

SETTINGS = SpoolSettings(bytes_max=1_048_576, segment_bytes=65_536)


def entry(number: int, *streams: str) -> bytes:
    return msgspec.json.encode([float(number), [[name, "tn", "us", None, "", []] for name in streams]])


def test_an_entry_is_found_by_each_stream_it_tells_of_in_order_and_while_segments_grow(tmp_path: Path):
    one, other, spooled = Spool(tmp_path, SETTINGS), Spool(tmp_path, SETTINGS), Spooled()
    assert spooled.find(one.segments, "a") == []
    one.add([entry(1, "a", "c"), entry(2, "b")])
    other.add([entry(3, "c")])
    assert spooled.find(one.segments, "a") == [entry(1, "a", "c")]
    assert spooled.find(one.segments, "c") == [entry(1, "a", "c"), entry(3, "c")]
    one.add([entry(4, "a")])
    assert spooled.find(one.segments, "a") == [entry(1, "a", "c"), entry(4, "a")]
    assert spooled.find(one.segments, "d") == []
    one.close()
    with one.taking() as segments:
        one.taken(segments[0])
    assert spooled.find(one.segments, "a") == []
    assert spooled.find(one.segments, "c") == [entry(3, "c")]
    other.close()


def test_segments_stay_in_their_order_within_a_moment_and_when_the_clock_is_set_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    clock = [1_800_000_000 * 10**9]
    monkeypatch.setattr("time.time_ns", lambda: clock[0])
    entries = [entry(number, "a") for number in range(12)]
    for one in entries:
        spool = Spool(tmp_path, SETTINGS)
        spool.add([one])
        spool.close()
        clock[0] -= 3600 * 10**9 if len(spool.segments) == 6 else 0
    assert Spooled().find(spool.segments, "a") == entries


def test_a_segment_that_is_deleted_between_the_listing_and_the_look_was_taken(tmp_path: Path):
    spool, spooled = Spool(tmp_path, SETTINGS), Spooled()
    spool.add([entry(1, "a")])
    segments = spool.segments
    segments[0].unlink()
    assert spooled.find(segments, "a") == []
    spool.close()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 200), flipped=st.none() | st.integers(0, 199))
def test_whatever_a_crash_leaves_only_whole_entries_are_found_and_more_behind_them(
    tmp_path: Path, cut: int, flipped: int | None
):
    spool = Spool(tmp_path / f"{cut}.{flipped}", SETTINGS)
    entries = [entry(number, "a") for number in range(4)]
    spool.add(entries)
    spool.close()
    [segment] = spool.segments
    content = bytearray(segment.read_bytes())
    if flipped is not None and flipped < cut and flipped < len(content):
        content[flipped] ^= 0x55
    segment.write_bytes(content[:cut])
    spooled = Spooled()
    found = spooled.find([segment], "a")
    assert [one for one in entries if one in found] == found
    segment.write_bytes(content)
    assert set(found) <= set(spooled.find([segment], "a"))


@pytest.mark.parametrize("broken", [b"{}", b"[]", b"[1,[[2]]]", b"\xff", b"no JSON"])
def test_what_is_no_entry_is_passed_over(tmp_path: Path, broken: bytes):
    spool = Spool(tmp_path, SETTINGS)
    spool.add([broken, entry(1, "a")])
    assert Spooled().find(spool.segments, "a") == [entry(1, "a")]
    spool.close()


def test_many_who_look_at_once_find_each_entry_once(tmp_path: Path):
    spool, spooled = Spool(tmp_path, SETTINGS), Spooled()
    spool.add([entry(number, f"s{number % 10}") for number in range(500)])
    found: list[list[bytes]] = []
    threads = [threading.Thread(target=lambda: found.append(spooled.find(spool.segments, "s3"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[entry(number, "s3") for number in range(3, 500, 10)]] * 8
    spool.close()
