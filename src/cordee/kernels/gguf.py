"""Whether a file is a sound GGUF model, decided before any C code maps it.

The format is one pass of little-endian counts, strings and arrays, then tensor descriptions, then tensor data. Every count
is compared with the bytes that are left before it is believed, so a hostile file of a kilobyte cannot ask for more memory
than a kilobyte's worth, and every tensor must lie inside the file. Format: the GGUF specification of the ggml project.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from cordee.kernels.gguf_source import STRING_BYTES_MAX, GGUFError, Source

__all__ = ["GGUFError", "Header", "Tensor", "read_header"]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
KEYS_MAX = 65_536
TENSORS_MAX = 65_536
KEY_BYTES_MAX = 65_535  # the specification's
ARRAY_ITEMS_MAX = 16 * 1024 * 1024  # the largest vocabularies have some hundred thousand
TENSOR_NAME_BYTES_MAX = 63
DIMENSIONS_MAX = 4
ELEMENTS_MAX = 2**63 - 1
ALIGNMENT_DEFAULT = 32
ALIGNMENT_MAX = 1 << 20

Scalar = int | float | bool | str
Value = Scalar | list[Scalar]

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {
    code: struct.Struct("<" + letter)
    for code, letter in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "B",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_U32_TYPE = 4
_KEY_BYTES_LEAST = 8 + 4 + 1  # an empty key, a type, one byte of value
_TENSOR_BYTES_LEAST = 8 + 4 + 8 + 4 + 8  # an empty name, one dimension

# ggml's tensor types: elements in a block, and bytes of a block. Types that were withdrawn are not here.
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84),
    11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74),
    18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2),
    26: (1, 4), 27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: `offset` and `size` in bytes, `offset` counted from the start of the tensor data."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a model file says about itself. Arrays are None in `metadata` unless they were asked for."""

    version: int
    metadata: dict[str, Value | None]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset: int


def read_header(path: Path, *, arrays: bool = False) -> Header:
    """Read and check the header of the model at `path`. `arrays`: keep arrays too (a vocabulary is large).

    Raises GGUFError for a file that is not sound, OSError for one that cannot be read.
    """
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        return _header(Source(stream, size), arrays)


def _header(source: Source, arrays: bool) -> Header:
    if source.take(len(MAGIC), "the magic") != MAGIC:
        raise GGUFError("byte 0: not a GGUF file: it does not begin with the letters GGUF.")
    version = source.u32("the version")
    if version not in VERSIONS:
        other = " (written for a big-endian machine)" if version in (v << 24 for v in VERSIONS) else ""
        raise source.wrong(f"GGUF version {version}{other}; versions {VERSIONS[0]} and {VERSIONS[1]} can be read")
    tensor_count = source.count("tensors", TENSORS_MAX, _TENSOR_BYTES_LEAST)
    key_count = source.count("metadata keys", KEYS_MAX, _KEY_BYTES_LEAST)
    metadata: dict[str, Value | None] = {}
    for _ in range(key_count):
        key = source.string("a metadata key", KEY_BYTES_MAX, strict=True)
        if key in metadata:
            raise source.wrong(f"the metadata key {key[:64]!r} stands there twice")
        kind = source.u32(f"the type of {key[:64]!r}")
        if key == "general.alignment" and kind != _U32_TYPE:
            raise source.wrong(f"general.alignment has the type {kind}; it must be {_U32_TYPE}, a 32-bit count")
        metadata[key] = _array(source, key, arrays) if kind == _ARRAY else _scalar(source, key, kind)
    alignment = _alignment(source, metadata)
    tensors = _tensors(source, tensor_count, alignment)
    data_offset = _aligned(source.at, alignment)
    for tensor in tensors:
        end = data_offset + tensor.offset + tensor.size
        if end > source.size:
            raise GGUFError(
                f"tensor {tensor.name!r} ends at byte {end}, the file at {source.size}: it is truncated; fetch it again."
            )
    return Header(version, metadata, tensors, alignment, data_offset)


def _alignment(source: Source, metadata: dict[str, Value | None]) -> int:
    alignment = metadata.get("general.alignment", ALIGNMENT_DEFAULT)
    assert isinstance(alignment, int)  # its type was checked where it was read
    if not 1 <= alignment <= ALIGNMENT_MAX or alignment & (alignment - 1):
        raise source.wrong(f"general.alignment is {alignment}; it must be a power of two, at most {ALIGNMENT_MAX}")
    return alignment


def _scalar(source: Source, key: str, kind: int) -> Scalar:
    if kind == _STRING:
        return source.string(f"the value of {key[:64]!r}", STRING_BYTES_MAX)
    layout = _SCALARS.get(kind)
    if layout is None:
        raise source.wrong(f"{key[:64]!r} has the unknown type {kind}")
    value: int | float = layout.unpack(source.take(layout.size, f"the value of {key[:64]!r}"))[0]
    if kind != _BOOL:
        return value
    if value not in (0, 1):
        raise source.wrong(f"{key[:64]!r} is a boolean of value {value}; it must be 0 or 1")
    return bool(value)


def _array(source: Source, key: str, keep: bool) -> list[Scalar] | None:
    kind = source.u32(f"the item type of {key[:64]!r}")
    layout = _SCALARS.get(kind)
    if layout is None and kind != _STRING:
        raise source.wrong(f"{key[:64]!r} is an array of the type {kind}, which arrays cannot hold")
    count = source.count(f"items of {key[:64]!r}", ARRAY_ITEMS_MAX, layout.size if layout else 8)
    if not keep:
        if layout:
            source.skip(count * layout.size, f"the items of {key[:64]!r}")
        else:
            source.skip_strings(count, f"an item of {key[:64]!r}")
        return None
    return [_scalar(source, key, kind) for _ in range(count)]


def _tensors(source: Source, count: int, alignment: int) -> tuple[Tensor, ...]:
    tensors: dict[str, Tensor] = {}
    expected = 0
    for _ in range(count):
        tensor = _tensor(source)
        if tensor.name in tensors:
            raise source.wrong(f"the tensor {tensor.name!r} stands there twice")
        if tensor.offset != expected:
            raise source.wrong(
                f"tensor {tensor.name!r} is at offset {tensor.offset}; after the one before it must be {expected}"
            )
        expected = _aligned(tensor.offset + tensor.size, alignment)
        tensors[tensor.name] = tensor
    return tuple(tensors.values())


def _tensor(source: Source) -> Tensor:
    name = source.string("a tensor's name", TENSOR_NAME_BYTES_MAX, strict=True)
    dimensions = source.u32(f"the number of dimensions of {name!r}")
    if not 1 <= dimensions <= DIMENSIONS_MAX:
        raise source.wrong(f"tensor {name!r} has {dimensions} dimensions; 1 to {DIMENSIONS_MAX} are allowed")
    shape = tuple(source.u64(f"the shape of {name!r}") for _ in range(dimensions))
    elements = 1
    for length in shape:
        elements *= length
    if not 1 <= elements <= ELEMENTS_MAX or max(shape) > ELEMENTS_MAX:
        raise source.wrong(f"tensor {name!r} of shape {shape} has an impossible number of elements")
    kind = source.u32(f"the type of {name!r}")
    if kind not in _BLOCKS:
        raise source.wrong(f"tensor {name!r} has the type {kind}, which is unknown or withdrawn")
    block, block_bytes = _BLOCKS[kind]
    if shape[0] % block:
        raise source.wrong(
            f"tensor {name!r} has rows of {shape[0]} elements; its type {kind} needs a multiple of {block}"
        )
    return Tensor(name, shape, kind, source.u64(f"the offset of {name!r}"), elements // block * block_bytes)


def _aligned(offset: int, alignment: int) -> int:
    return (offset + alignment - 1) & -alignment
