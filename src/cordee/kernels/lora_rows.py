"""An adapter as it is handed to llama.cpp: with matrices whose products do not depend on how many rows a step has.

For 32- and 16-bit matrices the kernels take another way to a product as soon as a step has two rows, and add up in another order, if
the rank is a multiple of four. So each pair gets rows of zeros up to a rank that is none, which changes no sum and leaves one way
for all: an answer with an adapter is the same alone and in company.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cordee.kernels.gguf import Header, Tensor
from cordee.kernels.gguf_write import F32, Written, pieces
from cordee.kernels.lora import A_SUFFIX, B_SUFFIX, FLIPPED

TILE = 4  # rows that the other way takes at once, at least
_HALF, _BRAIN = 1, 30  # ggml's types of 16 bits

Floats = NDArray[np.float32]


def rows_alike(path: Path, header: Header) -> bytes:
    """The adapter at `path`, whose header was found right, rewritten. Its own strength is in its numbers. Raises OSError."""
    alpha = header.metadata.get("adapter.lora.alpha")
    metadata = [
        ("general.architecture", str(header.metadata["general.architecture"])), ("general.type", "adapter"), ("adapter.type", "lora"),
    ]  # fmt: skip
    with path.open("rb") as stream:
        data = stream.read()
    tensors = {tensor.name: tensor for tensor in header.tensors}
    written = list(_pairs(data, header, tensors, alpha if isinstance(alpha, float) else 0.0))
    return b"".join(pieces(metadata, written))


def _pairs(data: bytes, header: Header, tensors: dict[str, Tensor], alpha: float) -> Iterator[Written]:
    for name in (name.removesuffix(A_SUFFIX) for name in tensors if name.endswith(A_SUFFIX)):
        a, b = (_numbers(data, header, tensors[name + suffix]) for suffix in (A_SUFFIX, B_SUFFIX))
        rank = b.shape[-1]
        if alpha:
            b = b * np.float32(alpha / rank)
        if rank % TILE == 0:
            a = _widened(a, a.ndim - 1 if name.endswith(FLIPPED) else a.ndim - 2)
            b = _widened(b, b.ndim - 1)
        for suffix, numbers in ((A_SUFFIX, a), (B_SUFFIX, b)):
            yield Written(name + suffix, numbers.shape[::-1], F32, numbers.astype("<f4").tobytes())


def _widened(numbers: Floats, axis: int) -> Floats:
    """With one more row of zeros."""
    return np.pad(numbers, [(0, int(at == axis)) for at in range(numbers.ndim)])


def _numbers(data: bytes, header: Header, tensor: Tensor) -> Floats:
    start = header.data_offset + tensor.offset
    raw = data[start : start + tensor.size]
    if tensor.type == _BRAIN:
        numbers = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        numbers = np.frombuffer(raw, "<f2" if tensor.type == _HALF else "<f4").astype(np.float32)
    return numbers.reshape(tensor.shape[::-1])
