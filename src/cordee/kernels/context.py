"""A context of llama.cpp: the cache of all sequences and the one batch whose arrays are filled in place.

Exact mode: the cache is kept per sequence (not unified) and K and V have different types, because only then does the
attention of a token not depend on what else is in the batch.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cordee.kernels.layout import FLASH_ATTENTION_ON, GGML_TYPE_BF16, GGML_TYPE_F16, Batch
from cordee.kernels.library import KernelsError
from cordee.kernels.llama import Model

CONTEXT_PAD = 256  # llama.cpp rounds the cache of a sequence up to this
ADDRESS_BYTES = 8
SEQ_ID_BYTES = 4

Logits = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """`context` is tokens per slot; `batch` the most rows of one decode, `ubatch` of one pass through the layers."""

    slots: int
    context: int
    batch: int
    ubatch: int
    threads: int
    exact: bool


class Context:
    """A cache of `slots` sequences and a batch whose arrays are filled in place and handed over as they are."""

    def __init__(self, model: Model, settings: ContextSettings) -> None:
        self.model = model
        self.calls = model.calls
        params: Any = self.calls.llama_context_default_params()
        params.n_ctx = settings.slots * (-(-settings.context // CONTEXT_PAD) * CONTEXT_PAD)
        params.n_batch, params.n_ubatch = settings.batch, settings.ubatch
        params.n_seq_max = settings.slots
        params.n_threads = params.n_threads_batch = settings.threads
        params.kv_unified = False
        params.flash_attn_type = FLASH_ATTENTION_ON
        params.type_k = GGML_TYPE_F16
        params.type_v = GGML_TYPE_BF16 if settings.exact else GGML_TYPE_F16
        self.pointer = self.calls.llama_init_from_model(model.pointer, params)
        if not self.pointer:
            raise KernelsError(
                f"no context of {settings.slots} slots × {settings.context} tokens: {model.library.complaints()}. "
                "Lower engine.slots or engine.context"
            )
        self.memory = self.calls.llama_get_memory(self.pointer)
        rows = settings.batch
        self.tokens: NDArray[np.int32] = np.zeros(rows, np.int32)
        self.positions: NDArray[np.int32] = np.zeros(rows, np.int32)
        self.slots: NDArray[np.int32] = np.zeros(rows, np.int32)
        self.wanted: NDArray[np.int8] = np.zeros(rows, np.int8)
        self._ones: NDArray[np.int32] = np.ones(rows, np.int32)
        starts = self.slots.ctypes.data + SEQ_ID_BYTES * np.arange(rows, dtype=np.uint64)
        self._slot_pointers: NDArray[np.uint64] = starts.astype(np.uint64)
        assert self._slot_pointers.itemsize == ADDRESS_BYTES
        self._batch = Batch(
            0,
            self.tokens.ctypes.data,
            None,
            self.positions.ctypes.data,
            self._ones.ctypes.data,
            self._slot_pointers.ctypes.data,
            self.wanted.ctypes.data,
        )

    def decode(self, rows: int) -> int:
        """Run the first `rows` rows of the arrays. 0 is success; see `llama_decode` for the rest. Releases the GIL."""
        self._batch.n_tokens = rows
        code: int = self.calls.llama_decode(self.pointer, self._batch)
        return code

    def logits(self, rows: int) -> Logits:
        """The logits of the last decode, one line per wanted row, in batch order. Valid, and writable, until the next."""
        address = self.calls.llama_get_logits(self.pointer)
        assert address, "logits asked for before a decode that wanted any"
        shape = (rows, self.model.size)
        return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), shape=shape)

    def copy(self, source: int, target: int) -> None:
        """Make `target` an exact copy of the sequence in `source`."""
        self.calls.llama_memory_seq_cp(self.memory, source, target, -1, -1)

    def cut(self, slot: int, length: int) -> bool:
        """Keep the first `length` tokens of a slot; False where this kind of model cannot."""
        done: bool = self.calls.llama_memory_seq_rm(self.memory, slot, length if length else -1, -1)
        return done

    def close(self) -> None:
        """Free it, before its model. Idempotent."""
        if self.pointer:
            self.calls.llama_free(self.pointer)
            self.pointer = None
