"""A copy of a GGUF file with another chat template: its metadata written anew, its tensors copied as they are."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

from cordee.kernels.gguf import ALIGNMENT_DEFAULT, read_header

KEY = b"tokenizer.chat_template"
STRING = 8  # the type of a text


def with_template(source: Path, target: Path, template: str) -> Path:
    """Raises AssertionError where `source` has no template, or is aligned otherwise than most."""
    header = read_header(source)
    assert header.alignment == ALIGNMENT_DEFAULT
    with source.open("rb") as old, target.open("wb") as new:
        head = old.read(_end_of_infos(source, header.data_offset))
        value = head.index(_text(KEY) + struct.pack("<I", STRING)) + len(_text(KEY)) + 4
        (length,) = struct.unpack_from("<Q", head, value)
        head = head[:value] + _text(template.encode()) + head[value + 8 + length :]
        new.write(head + bytes(-len(head) % ALIGNMENT_DEFAULT))
        old.seek(header.data_offset)
        shutil.copyfileobj(old, new)
    assert read_header(target).metadata[KEY.decode()] == template
    return target


def _end_of_infos(source: Path, data_offset: int) -> int:
    """Where the descriptions of the tensors end: behind the last one's name, shape, type and offset."""
    last = read_header(source).tensors[-1]
    described = _text(last.name.encode()) + struct.pack(
        f"<I{len(last.shape)}QIQ", len(last.shape), *last.shape, last.type, last.offset
    )
    with source.open("rb") as stream:
        head = stream.read(data_offset)
    return head.rindex(described) + len(described)


def _text(raw: bytes) -> bytes:
    return struct.pack("<Q", len(raw)) + raw
