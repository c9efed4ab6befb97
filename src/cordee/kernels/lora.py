"""Whether a file is a LoRA adapter that fits a model, decided from both headers before any C code sees it. Free of numpy.

LoRA: Hu et al., 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cordee.kernels.gguf import GGUFError, Header, Tensor, read_header

A_SUFFIX, B_SUFFIX = ".lora_a", ".lora_b"
NORM_SUFFIX = "_norm.weight"  # llama.cpp passes over these, and so do we
OUTPUT = "output.weight"
FLIPPED = "token_embd.weight"  # its rows are looked up, not multiplied: A and B stand the other way round
PLAIN_TYPES = {0: "F32", 1: "F16", 30: "BF16"}  # of ggml: what converters write, and what llama.cpp multiplies with
RANK_MAX = 4096  # of matrices whose point is to be thin


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter to be loaded: its own strength is multiplied by `scale`. `sha256`: of the file."""

    name: str
    path: Path
    scale: float
    sha256: str


def fitting_header(path: Path, base: Header) -> Header:
    """The header of the adapter at `path`. Raises GGUFError for a file that is none, or not for this base, OSError for one that cannot
    be read."""
    header = read_header(path)
    why = misfit(header, base)
    if why is not None:
        raise GGUFError(why)
    return header


def misfit(adapter: Header, base: Header) -> str | None:
    """Why this adapter cannot be laid over this model; None: it can."""
    metadata = adapter.metadata
    for key, must in (("general.type", "adapter"), ("adapter.type", "lora")):
        if metadata.get(key) != must:
            return f"{key} is {_shown(metadata.get(key))}, must be {must!r}: it is not a LoRA adapter"
    architecture, wanted = metadata.get("general.architecture"), base.metadata.get("general.architecture")
    if architecture != wanted:
        return f"it is for the architecture {_shown(architecture)}, the base model is {_shown(wanted)}"
    if "adapter.alora.invocation_tokens" in metadata:
        return "it is to be switched on by certain tokens (activated LoRA), which is not supported"
    alpha = metadata.get("adapter.lora.alpha", 0.0)
    if not isinstance(alpha, float) or not 0 <= alpha < float("inf"):
        return f"adapter.lora.alpha is {_shown(alpha)}, must be a number that is not negative"
    pairs: dict[str, dict[str, Tensor]] = {}
    for tensor in adapter.tensors:
        suffix = tensor.name[-len(A_SUFFIX) :]
        if suffix in (A_SUFFIX, B_SUFFIX):
            pairs.setdefault(tensor.name[: -len(A_SUFFIX)], {})[suffix] = tensor
        elif not tensor.name.endswith(NORM_SUFFIX):
            return f"the tensor {tensor.name!r} is none of a LoRA adapter: names end in {A_SUFFIX} or {B_SUFFIX}"
    if not pairs:
        return "it has no pair of tensors"
    shapes = {tensor.name: tensor.shape for tensor in base.tensors}
    is_tied = OUTPUT not in shapes
    for name, pair in pairs.items():
        if why := _pair_misfit(name, pair, shapes.get(name), is_tied=is_tied):
            return why
    return None


def _pair_misfit(name: str, pair: dict[str, Tensor], shape: tuple[int, ...] | None, *, is_tied: bool) -> str | None:
    """`is_tied`: the matrix of token embeddings is that of the output too. llama.cpp would multiply it the wrong way round there, and
    end the process."""
    a, b = pair.get(A_SUFFIX), pair.get(B_SUFFIX)
    if a is None or b is None:
        there, missing = (B_SUFFIX, A_SUFFIX) if a is None else (A_SUFFIX, B_SUFFIX)
        return f"{name}{there} stands there without {name}{missing}"
    if shape is None:
        return f"{name!r} is no tensor of the base model: it was made for another one"
    for tensor in (a, b):
        if tensor.type not in PLAIN_TYPES:
            return (
                f"the tensor {tensor.name!r} has the type {tensor.type}; allowed are {', '.join(PLAIN_TYPES.values())}"
            )
    if not len(a.shape) == len(b.shape) == len(shape) or len(shape) < 2:
        return f"{name!r} has {len(shape)} dimensions in the base model, and {len(a.shape)} and {len(b.shape)} in the adapter"
    if a.shape[2:] != shape[2:] or b.shape[2:] != shape[2:]:
        return f"{name!r} has the shape {shape} in the base model, and {a.shape} and {b.shape} in the adapter"
    if name.endswith(FLIPPED) and is_tied:
        return f"{name!r} is also the output of the base model, which cannot be adapted then"
    rank = a.shape[0] if name.endswith(FLIPPED) else a.shape[1]
    must_a, must_b = (shape[0], rank), (rank, shape[1])
    if name.endswith(FLIPPED):
        must_a, must_b = (rank, shape[1]), (rank, shape[0])
    if a.shape[:2] != must_a or b.shape[:2] != must_b:
        return (
            f"{name!r} has the shape {shape} in the base model; {a.shape} and {b.shape} do not fit that: "
            f"with rank {rank} they must begin with {must_a} and {must_b}"
        )
    if rank > RANK_MAX:
        return f"{name!r} has the rank {rank}; at most {RANK_MAX} is allowed"
    return None


def _shown(value: object) -> str:
    return "missing" if value is None else repr(value)[:64]
