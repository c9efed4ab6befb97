"""A sound GGUF is read; a truncated or hostile one is refused in words, without believing its counts."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from cordee.kernels.gguf import GGUFError, Header, read_header
from cordee.kernels.gguf_source import Source
from tests.kernels.gguf_files import ARRAY, BOOL, KEYS, STRING, TENSORS, U32, array, file, sound, text

MEMORY_BYTES_MAX = 4 << 20  # one piece of a mebibyte, and the little that is kept


def read(path: Path, content: bytes, *, arrays: bool = False) -> Header:
    target = path / "model.gguf"
    target.write_bytes(content)
    return read_header(target, arrays=arrays)


def test_a_sound_file_is_read(tmp_path):
    header = read(tmp_path, sound())
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["llama.context_length"] == 64
    assert header.metadata["tokenizer.ggml.add_bos_token"] is True
    assert header.metadata["tokenizer.ggml.tokens"] is None
    assert [(tensor.name, tensor.offset, tensor.size) for tensor in header.tensors] == [
        ("a.weight", 0, 40),
        ("b.weight", 64, 12),
    ]
    assert header.data_offset + 76 == len(sound())


def test_arrays_are_kept_when_asked_for(tmp_path):
    metadata = read(tmp_path, sound(), arrays=True).metadata
    assert metadata["tokenizer.ggml.tokens"] == ["a", "bc", "�"]
    assert metadata["tokenizer.ggml.scores"] == [0.5, 0.5, 0.5]


def test_no_strings_are_lost_where_pieces_of_the_file_meet(tmp_path, monkeypatch):
    items = [text("x" * (length % 23)) for length in range(200)]
    content = file(keys=[("t", ARRAY, array(STRING, items)), ("after", U32, struct.pack("<I", 7))])
    for piece in range(1, 40):
        monkeypatch.setattr(Source, "PIECE_BYTES", piece)
        assert read(tmp_path, content).metadata["after"] == 7


def test_another_alignment_moves_the_data(tmp_path):
    keys = [("general.alignment", U32, struct.pack("<I", 4096))]
    header = read(tmp_path, file(keys, [("a", (1,), 0, 0)], b"\0" * 4, alignment=4096))
    assert header.data_offset == 4096


def test_every_truncation_is_refused(tmp_path):
    content = sound()
    for length in range(len(content)):
        with pytest.raises(GGUFError):
            read(tmp_path, content[:length])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"GGML" + sound()[4:], "not a GGUF file"),
        (file(version=1), "GGUF version 1"),
        (file(version=3 << 24), "big-endian"),
        (file(key_count=2**63), "metadata keys; at most 65536"),
        (file(tensor_count=2**63), "tensors; at most 65536"),
        (file(key_count=60_000), "cannot fit"),
        (file(key_count=4), "."),
        (file(keys=[("k", STRING, struct.pack("<Q", 2**60))]), "bytes long; at most"),
        (file(keys=[("k", STRING, struct.pack("<Q", 1000))]), "truncated"),
        (file(keys=[("k", ARRAY, array(STRING, [], 2**62))]), "items of 'k'; at most"),
        (file(keys=[("k", ARRAY, array(STRING, [], 10_000_000))]), "cannot fit"),
        (file(keys=[("k", ARRAY, array(ARRAY, [], 1))]), "which arrays cannot hold"),
        (file(keys=[("k", ARRAY, array(STRING, [struct.pack("<Q", 2**63)] * 2))]), "bytes long; at most"),
        (file(keys=[("k", 13, b"")]), "unknown type 13"),
        (file(keys=[("k", 0xFFFFFFFF, b"")]), "unknown type 4294967295"),
        (file(keys=[("k", BOOL, b"\x02")]), "must be 0 or 1"),
        (file(keys=[KEYS[0], KEYS[0]]), "stands there twice"),
        (file(keys=[("k" * 70_000, U32, b"\0\0\0\0")]), "at most 65535"),
        (
            file(keys=[(b"\xff\xfe".decode("latin-1"), U32, b"\0\0\0\0")]).replace("ÿþ".encode(), b"\xff\xfe\xff\xfe"),
            "not UTF-8",
        ),
        (file(keys=[("general.alignment", U32, struct.pack("<I", 0))]), "power of two"),
        (file(keys=[("general.alignment", U32, struct.pack("<I", 3))]), "power of two"),
        (file(keys=[("general.alignment", U32, struct.pack("<I", 2**31))]), "power of two"),
        (file(keys=[("general.alignment", STRING, text("32"))]), "has the type 8"),
        (file(tensors=[TENSORS[0], TENSORS[0]]), "stands there twice"),
        (file(tensors=[("t" * 64, (1,), 0, 0)]), "at most 63"),
        (file(tensors=[("t", (), 0, 0)]), "0 dimensions"),
        (file(tensors=[("t", (1,) * 5, 0, 0)]), "5 dimensions"),
        (file(tensors=[("t", (2**32, 2**32), 0, 0)]), "impossible number of elements"),
        (file(tensors=[("t", (2**63, 0), 0, 0)]), "impossible number of elements"),
        (file(tensors=[("t", (2**63,), 0, 0)]), "impossible number of elements"),
        (file(tensors=[("t", (1,), 4, 0)]), "unknown or withdrawn"),
        (file(tensors=[("t", (1,), 2**31, 0)]), "unknown or withdrawn"),
        (file(tensors=[("t", (31,), 3, 0)]), "needs a multiple of 32"),
        (file(tensors=[("t", (1,), 0, 32)]), "must be 0"),
        (file(tensors=[TENSORS[0], ("b.weight", (3,), 0, 0)]), "must be 64"),
        (file(tensors=[("t", (2**40,), 0, 0)]), "truncated"),
        (file(data=b"\0" * 75), "ends at byte"),
    ],
)
def test_a_hostile_file_is_refused_in_words_and_without_big_allocations(tmp_path, content, said):
    tracemalloc.start()
    try:
        with pytest.raises(GGUFError) as caught:
            read(tmp_path, content, arrays=True)
        assert tracemalloc.get_traced_memory()[1] < MEMORY_BYTES_MAX
    finally:
        tracemalloc.stop()
    assert said in str(caught.value)


@examples(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, len(sound()) - 1), patch=st.binary(min_size=1, max_size=9))
def test_no_patched_file_makes_anything_but_a_header_or_a_gguf_error(tmp_path, at, patch):
    content = sound()[:at] + patch + sound()[at + len(patch) :]
    try:
        header = read(tmp_path, content, arrays=True)
    except GGUFError:
        return
    assert all(header.data_offset + tensor.offset + tensor.size <= len(content) for tensor in header.tensors)


@examples(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tail=st.binary(max_size=300))
def test_no_bytes_after_the_magic_make_anything_but_a_header_or_a_gguf_error(tmp_path, tail):
    try:
        read(tmp_path, b"GGUF\x03\0\0\0" + tail)
    except GGUFError as error:
        said = str(error)
    else:
        said = "byte"
    assert "byte" in said
