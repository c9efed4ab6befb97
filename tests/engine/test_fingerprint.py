from __future__ import annotations

from pathlib import Path

from cordee.engine.fingerprint import file_sha256, fingerprint


def test_equal_parts_have_equal_fingerprints_in_any_order():
    assert fingerprint({"a": 1, "b": "x"}) == fingerprint({"b": "x", "a": 1})


def test_any_difference_shows():
    names: list[dict[str, object]] = [{"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, {"a": 1, "b": 1}, {}]
    assert len({fingerprint(parts) for parts in names}) == len(names)


def test_a_file_is_hashed_by_content(tmp_path: Path):
    (tmp_path / "f").write_bytes(b"abc")
    assert file_sha256(tmp_path / "f").startswith("ba7816bf8f01cfea")
