"""Small LoRA adapters for a real model, made of random numbers, and ones with a fault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cordee.kernels.gguf import Header, read_header
from cordee.kernels.gguf_write import F32, Content, Written, pieces

RANK = 4
METADATA: Mapping[str, Content] = {
    "general.architecture": "llama",
    "general.type": "adapter",
    "adapter.type": "lora",
    "adapter.lora.alpha": 8.0,
}


def adapter(
    path: Path, base: Header, seed: int = 0, *, strength: float = 0.1, names: tuple[str, ...] = ("attn_q", "ffn_down"),
    metadata: Mapping[str, Content | None] = METADATA, rank: int = RANK,
) -> Path:  # fmt: skip
    """An adapter for some matrices in each layer of the base; `metadata` of None is left out."""
    rng = np.random.default_rng(seed)
    tensors: list[Written] = []
    for tensor in base.tensors:
        if any(tensor.name.endswith(f".{name}.weight") for name in names):
            columns, rows = tensor.shape
            for suffix, shape in (("lora_a", (columns, rank)), ("lora_b", (rank, rows))):
                numbers = rng.normal(0, strength, shape[0] * shape[1]).astype("<f4")
                tensors.append(Written(f"{tensor.name}.{suffix}", shape, F32, numbers.tobytes()))
    path.write_bytes(b"".join(pieces([(key, one) for key, one in metadata.items() if one is not None], tensors)))
    return path


def of_model(path: Path, model: Path, seed: int = 0, strength: float = 0.1) -> Path:
    return adapter(path, read_header(model), seed, strength=strength)
