"""Small GGUF files written byte by byte, sound and not, for whoever needs one."""

from __future__ import annotations

import struct
from collections.abc import Sequence

U32, F32, BOOL, STRING, ARRAY, U64 = 4, 6, 7, 8, 9, 10
Key = tuple[str, int, bytes]
Tensor = tuple[str, Sequence[int], int, int]


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def array(kind: int, items: Sequence[bytes], count: int | None = None) -> bytes:
    return struct.pack("<IQ", kind, len(items) if count is None else count) + b"".join(items)


KEYS: tuple[Key, ...] = (
    ("general.architecture", STRING, text("llama")),
    ("llama.context_length", U32, struct.pack("<I", 64)),
    ("tokenizer.ggml.tokens", ARRAY, array(STRING, [text("a"), text("bc"), text(b"\xff")])),
    ("tokenizer.ggml.scores", ARRAY, array(F32, [struct.pack("<f", 0.5)] * 3)),
    ("tokenizer.ggml.add_bos_token", BOOL, b"\x01"),
)
TENSORS: tuple[Tensor, ...] = (("a.weight", (32, 2), 3, 0), ("b.weight", (3,), 0, 64))


def file(
    keys: Sequence[Key] = KEYS,
    tensors: Sequence[Tensor] = TENSORS,
    data: bytes = b"\0" * 76,
    *,
    version: int = 3,
    key_count: int | None = None,
    tensor_count: int | None = None,
    alignment: int = 32,
) -> bytes:
    """A file whose counts may lie. The defaults fit together: 40 bytes of tensor a, padding, 12 bytes of tensor b."""
    out = b"GGUF" + struct.pack("<I", version)
    out += struct.pack(
        "<QQ", len(tensors) if tensor_count is None else tensor_count, len(keys) if key_count is None else key_count
    )
    for name, kind, value in keys:
        out += text(name) + struct.pack("<I", kind) + value
    for name, shape, kind, offset in tensors:
        out += (
            text(name)
            + struct.pack("<I", len(shape))
            + struct.pack(f"<{len(shape)}Q", *shape)
            + struct.pack("<IQ", kind, offset)
        )
    return out + b"\0" * (-len(out) % alignment) + data


def sound() -> bytes:
    return file()
