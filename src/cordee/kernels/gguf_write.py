"""Writing a GGUF file: the same bytes for the same content, so that what was converted can be pinned by its hash.

The counterpart of `kernels.gguf`, for the few model files that we make ourselves. Free of numpy: tensors come as bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cordee.kernels.gguf import ALIGNMENT_DEFAULT, MAGIC, VERSIONS

F32, Q8_0 = 0, 8  # ggml's tensor types
_U32, _I32, _F32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9

Content = bool | int | float | str | Sequence[str] | Sequence[int]


@dataclass(frozen=True, slots=True)
class Written:
    """One tensor as it is to stand in the file. `shape`: the fastest-running dimension first, as the format has it."""

    name: str
    shape: tuple[int, ...]
    type: int
    data: bytes


def pieces(metadata: Sequence[tuple[str, Content]], tensors: Sequence[Written]) -> Iterator[bytes]:
    """The file, piece by piece. Whole numbers are written as 32-bit counts, fractions as 32-bit floats, lists as lists of strings or
    of signed 32-bit numbers."""
    head = MAGIC + struct.pack("<IQQ", VERSIONS[-1], len(tensors), len(metadata))
    head += b"".join(_text(key) + _value(content) for key, content in metadata)
    offset = 0
    for tensor in tensors:
        head += _text(tensor.name) + struct.pack("<I", len(tensor.shape))
        head += struct.pack(f"<{len(tensor.shape)}QIQ", *tensor.shape, tensor.type, offset)
        offset += len(tensor.data) + _padding(len(tensor.data))
    yield head + bytes(_padding(len(head)))
    for tensor in tensors:
        yield tensor.data + bytes(_padding(len(tensor.data)))


def _value(content: Content) -> bytes:
    if isinstance(content, bool):
        return struct.pack("<I?", _BOOL, content)
    if isinstance(content, int):
        return struct.pack("<II", _U32, content)
    if isinstance(content, float):
        return struct.pack("<If", _F32, content)
    if isinstance(content, str):
        return struct.pack("<I", _STRING) + _text(content)
    strings = [item for item in content if isinstance(item, str)]
    if strings:
        return struct.pack("<IIQ", _ARRAY, _STRING, len(strings)) + b"".join(map(_text, strings))
    numbers = [item for item in content if isinstance(item, int)]
    return struct.pack(f"<IIQ{len(numbers)}i", _ARRAY, _I32, len(numbers), *numbers)


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _padding(size: int) -> int:
    return -size % ALIGNMENT_DEFAULT
