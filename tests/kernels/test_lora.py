"""An adapter is refused before llama.cpp sees it, with what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from cordee.kernels.gguf import GGUFError, Header, Tensor
from cordee.kernels.lora import fitting_header, misfit
from tests.lora_files import METADATA, adapter

BASE = Header(
    3,
    {"general.architecture": "llama"},
    tuple(
        Tensor(name, shape, 0, 0, 0)
        for name, shape in (
            ("token_embd.weight", (8, 32)), ("blk.0.attn_q.weight", (8, 16)), ("blk.0.ffn_down.weight", (24, 8)),
            ("blk.0.attn_norm.weight", (8,)),
        )
    ),
    32,
    0,
)  # fmt: skip


def test_an_adapter_for_the_base_fits(tmp_path: Path) -> None:
    assert len(fitting_header(adapter(tmp_path / "a.gguf", BASE), BASE).tensors) == 4


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("general.type", "model", "general.type is 'model', must be 'adapter'"),
        ("general.type", None, "general.type is missing"),
        ("adapter.type", "ia3", "adapter.type is 'ia3', must be 'lora'"),
        ("general.architecture", "qwen2", "for the architecture 'qwen2', the base model is 'llama'"),
        ("adapter.lora.alpha", -1.0, "adapter.lora.alpha is -1.0"),
        ("adapter.lora.alpha", float("nan"), "adapter.lora.alpha is nan"),
        ("adapter.lora.alpha", "8", "adapter.lora.alpha is '8'"),
        ("adapter.alora.invocation_tokens", [1, 2], "activated LoRA"),
    ],
)
def test_what_it_says_of_itself_must_be_right(tmp_path: Path, key: str, value: object, said: str) -> None:
    path = adapter(tmp_path / "a.gguf", BASE, metadata={**METADATA, key: value})  # type: ignore[dict-item]
    with pytest.raises(GGUFError, match=said):
        fitting_header(path, BASE)


def other(shapes: dict[str, tuple[int, ...]], kind: int = 0) -> Header:
    return Header(3, dict(METADATA), tuple(Tensor(name, shape, kind, 0, 0) for name, shape in shapes.items()), 32, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shapes", "said"),
    [
        ({}, "no pair of tensors"),
        ({"blk.0.attn_q.weight": (8, 16)}, "is none of a LoRA adapter"),
        ({"blk.0.attn_q.weight.lora_a": (8, 4)}, "without blk.0.attn_q.weight.lora_b"),
        ({"blk.9.attn_q.weight.lora_a": (8, 4), "blk.9.attn_q.weight.lora_b": (4, 16)}, "no tensor of the base model"),
        ({"blk.0.attn_q.weight.lora_a": (9, 4), "blk.0.attn_q.weight.lora_b": (4, 16)}, "do not fit"),
        ({"blk.0.attn_q.weight.lora_a": (8, 4), "blk.0.attn_q.weight.lora_b": (5, 16)}, "do not fit"),
        ({"blk.0.attn_q.weight.lora_a": (4, 8), "blk.0.attn_q.weight.lora_b": (16, 4)}, "do not fit"),
        ({"blk.0.attn_norm.weight.lora_a": (8,), "blk.0.attn_norm.weight.lora_b": (8,)}, "1 dimensions"),
        ({"token_embd.weight.lora_a": (4, 32), "token_embd.weight.lora_b": (4, 8)}, "also the output"),
        ({"blk.0.attn_q.weight.lora_a": (8, 5000), "blk.0.attn_q.weight.lora_b": (5000, 16)}, "the rank 5000"),
    ],
)
def test_its_tensors_must_fit_those_of_the_base(shapes: dict[str, tuple[int, ...]], said: str) -> None:
    assert said in (misfit(other(shapes), BASE) or "")


def test_quantised_adapters_are_refused() -> None:
    pair: dict[str, tuple[int, ...]] = {"blk.0.attn_q.weight.lora_a": (8, 4), "blk.0.attn_q.weight.lora_b": (4, 16)}
    assert "the type 8" in (misfit(other(pair, kind=8), BASE) or "")
    assert misfit(other({**pair, "blk.0.attn_norm.weight": (8,)}), BASE) is None


def test_a_truncated_adapter_says_so(tmp_path: Path) -> None:
    path = adapter(tmp_path / "a.gguf", BASE)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(GGUFError, match="truncated"):
        fitting_header(path, BASE)
