from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.services.base.errors import Problem
from cordee.services.files.records import Purpose
from cordee.services.files.rules import kinds, ranges
from cordee.services.files.rules.names import BYTES_MAX, cleaned, disposition
from cordee.services.files.sniff import found

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("report.pdf", "report.pdf"), ("../../etc/passwd", "passwd"), ("C:\\Windows\\x.exe", "x.exe"), ("/abs", "abs"),
        ("a\0b.txt", "ab.txt"), ("\u202etxt.exe", "txt.exe"), (".htaccess", "htaccess"), ("a\r\nSet-Cookie: x", "aSet-Cookie x"),
        ("", "file"), ("...", "file"), ("..", "file"), ("a" * 10_000 + ".txt", "a" * (BYTES_MAX - 4) + ".txt"),
        ("Ã\u0308 é.txt", "Ã̈ é.txt"), ("dir/", "dir"), ("\ud800x", "x"),
    ],
)  # fmt: skip
def test_a_name_is_only_shown(name: str, shown: str):
    assert cleaned(name) == shown


@given(st.text())
def test_no_cleaned_name_can_mislead(name: str):
    shown = cleaned(name)
    assert 0 < len(shown.encode()) <= BYTES_MAX
    assert not set(shown) & set('/\\\0\r\n<>:"|?*')
    assert not any(unicodedata.category(c).startswith("C") for c in shown)
    assert not shown.startswith(".")
    assert cleaned(shown) == shown
    assert disposition(shown).isascii()
    assert disposition(shown).startswith("attachment; ")


@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 400))
def test_a_range_is_a_slice(content: bytes, first: int, last: int):
    try:
        span = ranges.asked(f"bytes={first}-{last}", len(content))
    except ValueError:
        assert content[first : last + 1] == b""
    else:
        if span is None:
            assert last < first
        else:
            assert content[span.start : span.stop] == content[first : last + 1] != b""


@pytest.mark.parametrize(
    ("purpose", "claimed", "head", "kind"),
    [
        (Purpose.BATCH, "application/jsonl", b'{"a": 1}\n', "application/jsonl"),
        (Purpose.USER_DATA, "text/html", b"<html><script>", kinds.BYTES),
        (Purpose.USER_DATA, "image/svg+xml", b"<svg onload='x'/>", kinds.BYTES),
        (Purpose.USER_DATA, kinds.BYTES, PNG, "image/png"),
        (Purpose.VISION, "image/png", PNG, "image/png"),
        (Purpose.USER_DATA, "application/pdf", b"%PDF-1.7\n%\xe2", "application/pdf"),
        (Purpose.USER_DATA, "application/zip", b"PK\x03\x04\x14\0", "application/zip"),
        (Purpose.USER_DATA, "application/gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "application/gzip"),
        (Purpose.USER_DATA, "text/plain", b"\x7fELF\x02\x01\x01\0", kinds.BYTES),
    ],
)
def test_a_content_is_given_back_as_what_can_do_no_harm(purpose: Purpose, claimed: str, head: bytes, kind: str):
    assert kinds.settled(purpose, claimed, head, found(head), "file") == kind


@pytest.mark.parametrize(
    ("purpose", "claimed", "head"),
    [
        (Purpose.FINE_TUNE, "text/plain", PNG), (Purpose.VISION, "image/png", b"%PDF-1.7"),
        (Purpose.USER_DATA, "application/pdf", b"<!DOCTYPE html><script>"), (Purpose.USER_DATA, "image/jpeg", PNG),
        (Purpose.BATCH, "text/plain", b"\xff\xfea\0"), (Purpose.ASSISTANTS, "application/zip", b"MZ\x90\0"),
        (Purpose.USER_DATA, "application/gzip", b"PK\x03\x04\x14\0"),
    ],
)  # fmt: skip
def test_a_content_that_is_not_what_it_is_said_to_be_is_refused(purpose: Purpose, claimed: str, head: bytes):
    with pytest.raises(Problem) as refused:
        kinds.settled(purpose, claimed, head, found(head), "file")
    assert (refused.value.status, refused.value.param) == (400, "file")


def test_a_character_that_the_end_of_the_head_cuts_is_still_text():
    text = ("x" * (kinds.HEAD_BYTES - 1) + "é").encode()
    assert kinds.reads_as_text(text[: kinds.HEAD_BYTES])
    assert not kinds.reads_as_text(b"short \xc3")


def test_a_media_type_that_is_none_is_bytes():
    assert kinds.said("Text/Plain; charset=utf-8") == "text/plain"
    for odd in ("", "text", "a/b\r\nx: y", "é/x", "a/" + "b" * 100):
        assert kinds.said(odd) == kinds.BYTES
