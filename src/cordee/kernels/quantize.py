"""Writing a model anew with weights of fewer bits: the types there are, what a file would become, and doing it with llama.cpp.

llama.cpp ends the process where a file surprises it: call `quantize` in a child process only.
"""

from __future__ import annotations

import ctypes as c
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cordee.kernels.gguf import Header
from cordee.kernels.layout import LogCallback, Pointer
from cordee.kernels.library import KernelsError, Library

GGML_TYPES_MAX = 64  # the default of the overriding types is the number of types: around 43, and never beyond this
FTYPE_DEFAULT = 7  # Q8_0
PLAIN = frozenset({0, 1, 30})  # ggml types of whole and half precision: F32, F16, BF16
LINES_KEPT = 8  # of llama.cpp's words, for an error


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to write weights. `ftype`: llama.cpp's number; `about`: what it is for."""

    name: str
    ftype: int
    about: str


# Types that are useless without an importance matrix, which we have none of, are not offered.
KINDS = tuple(
    Kind(*one)
    for one in (
        ("F32", 0, "32-bit floating point: the reference"),
        ("BF16", 32, "16-bit, the range of 32"),
        ("F16", 1, "16-bit"),
        ("Q8_0", 7, "8-bit blocks of 32: hardly any loss"),
        ("Q6_K", 18, "6-bit"),
        ("Q5_K_M", 17, "5-bit, more for what matters most"),
        ("Q5_K_S", 16, "5-bit"),
        ("Q5_1", 9, "5-bit blocks of 32 with an offset"),
        ("Q5_0", 8, "5-bit blocks of 32"),
        ("Q4_K_M", 15, "4-bit, more for what matters most: the usual choice"),
        ("Q4_K_S", 14, "4-bit"),
        ("IQ4_NL", 25, "4-bit on an uneven scale"),
        ("IQ4_XS", 30, "4-bit on an uneven scale, in large blocks"),
        ("Q4_1", 3, "4-bit blocks of 32 with an offset"),
        ("Q4_0", 2, "4-bit blocks of 32: the fastest on many processors"),
        ("Q3_K_L", 13, "3-bit, most for what matters"),
        ("Q3_K_M", 12, "3-bit, more for what matters most"),
        ("Q3_K_S", 11, "3-bit: a marked loss"),
        ("Q2_K", 10, "2-bit: a heavy loss"),
    )
)


class Params(c.Structure):
    """`struct llama_model_quantize_params` of llama.cpp 0.5; what stands behind `prune_layers` we never touch."""

    _fields_ = (
        ("nthread", c.c_int32),
        ("ftype", c.c_int),
        ("output_tensor_type", c.c_int),
        ("token_embedding_type", c.c_int),
        ("allow_requantize", c.c_bool),
        ("quantize_output_tensor", c.c_bool),
        ("only_copy", c.c_bool),
        ("pure", c.c_bool),
        ("keep_split", c.c_bool),
        ("dry_run", c.c_bool),
        ("imatrix", Pointer),
        ("kv_overrides", Pointer),
        ("tt_overrides", Pointer),
        ("prune_layers", Pointer),
        ("rest", c.c_uint64 * 8),
    )


@dataclass(frozen=True, slots=True)
class Job:
    """`dry`: only the size is found out, nothing is written. `threads` 0: as many as there are processors."""

    source: Path
    target: Path
    ftype: int
    threads: int = 0
    requantize: bool = False
    dry: bool = False


Progress = Callable[[int, int], None]  # tensors done, tensors in all
_TENSOR = re.compile(rb"^\[\s*(\d+)/\s*(\d+)\]")
_SIZE = re.compile(rb"quant size\s*=\s*([0-9.]+) MiB \(\s*([0-9.]+) BPW\)")


def kind_named(name: str) -> Kind | None:
    return next((kind for kind in KINDS if kind.name == name.upper()), None)


def quantised_tensors(header: Header) -> int:
    """How many tensors have lost precision already."""
    return sum(tensor.type not in PLAIN for tensor in header.tensors)


def quantize(library: Library, job: Job, progress: Progress) -> tuple[float, float]:
    """Returns MiB of all weights and bits per weight, as llama.cpp counts them. Raises KernelsError."""
    calls = library.calls
    params = _defaults(calls)
    params.ftype, params.nthread = job.ftype, job.threads
    params.allow_requantize, params.dry_run = job.requantize, job.dry
    words: list[str] = []
    found: list[tuple[float, float]] = []

    def hear(level: int, text: bytes | None, _: object) -> None:
        if not text:
            return
        if at := _TENSOR.match(text):
            progress(int(at[1]), int(at[2]))
        elif size := _SIZE.search(text):
            found.append((float(size[1]), float(size[2])))
        elif level >= _WARNING:
            words.append(text.decode(errors="replace").strip())

    callback = LogCallback(hear)
    calls.llama_log_set(callback, None)
    try:
        code = calls.llama_model_quantize(str(job.source).encode(), str(job.target).encode(), c.byref(params))
    finally:
        calls.llama_log_set(library.log_callback, None)
    if code or not found:
        said = "; ".join(word for word in words[-LINES_KEPT:] if word) or "no reason was given"
        raise KernelsError(f"{job.source} could not be quantised (code {code}): {said}")
    return found[-1]


_WARNING = 3  # ggml_log_level


def _defaults(calls: Any) -> Params:
    """Raises KernelsError for a library whose parameters are laid out in another way."""
    calls.llama_model_quantize_default_params.restype = Params
    calls.llama_model_quantize_default_params.argtypes = ()
    calls.llama_model_quantize.restype = c.c_uint32
    calls.llama_model_quantize.argtypes = (c.c_char_p, c.c_char_p, c.POINTER(Params))
    params: Params = calls.llama_model_quantize_default_params()
    switches = (params.allow_requantize, params.only_copy, params.pure, params.keep_split, params.dry_run)
    pointers = (params.imatrix, params.kv_overrides, params.tt_overrides, params.prune_layers)
    types = (params.output_tensor_type, params.token_embedding_type)
    known = (
        (params.nthread, params.ftype) == (0, FTYPE_DEFAULT)
        and types[0] == types[1]
        and 0 < types[0] <= GGML_TYPES_MAX
        and not any(switches)
        and params.quantize_output_tensor
        and not any(pointers)
    )
    if not known:
        raise KernelsError(
            "this library's parameters of quantising are not those of llama.cpp 0.5: set engine.library to such a build"
        )
    return params
