"""What is written as GGUF is read as what it was."""

from __future__ import annotations

from pathlib import Path

from cordee.kernels.gguf import read_header
from cordee.kernels.gguf_write import F32, Q8_0, Content, Written, pieces

METADATA: list[tuple[str, Content]] = [
    ("general.architecture", "bert"),
    ("a.count", 7),
    ("a.part", 0.5),
    ("a.switch", False),
    ("a.words", ["é", "", "b"]),
    ("a.kinds", [1, -3]),
]
TENSORS = [Written("a.weight", (32, 2), Q8_0, b"q" * 68), Written("b.bias", (3,), F32, b"f" * 12)]


def test_a_written_file_is_read_as_it_was_meant(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"".join(pieces(METADATA, TENSORS)))
    header = read_header(path, arrays=True)
    assert header.metadata == dict(METADATA)
    assert [(t.name, t.shape, t.type, t.offset, t.size) for t in header.tensors] == [
        ("a.weight", (32, 2), Q8_0, 0, 68),
        ("b.bias", (3,), F32, 96, 12),
    ]
    data = path.read_bytes()[header.data_offset :]
    assert data == b"q" * 68 + bytes(28) + b"f" * 12 + bytes(20)


def test_the_same_content_is_the_same_bytes() -> None:
    assert b"".join(pieces(METADATA, TENSORS)) == b"".join(pieces(METADATA, TENSORS))
