"""A context of llama.cpp: the cache of all sequences and the one batch whose arrays are filled in place.

Exact mode: the cache is kept per sequence (not unified) and K and V have different types, because only then does the
attention of a token not depend on what else is in the batch.

A decode can be stopped from another thread. llama.cpp asks a callback after each operation whether it should, and that must cost
nothing and never wait for the interpreter, so the callback is the C library's own `strlen`, and the question a string: empty, go on.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cordee.kernels.layout import FLASH_ATTENTION_ON, GGML_TYPE_BF16, GGML_TYPE_F16, Batch
from cordee.kernels.library import KernelsError
from cordee.kernels.llama import Model
from cordee.kernels.settings import ContextSettings

__all__ = ["Context", "ContextSettings", "Logits", "State"]

ADDRESS_BYTES = 8
SEQ_ID_BYTES = 4
ABORT_BYTES = 2  # a string of one character, or of none

Logits = NDArray[np.float32]
State = NDArray[np.uint8]


class Context:
    """A cache of `slots` sequences and a batch whose arrays are filled in place and handed over as they are."""

    def __init__(self, model: Model, settings: ContextSettings) -> None:
        self.model = model
        self.calls = model.calls
        params: Any = self.calls.llama_context_default_params()
        params.n_ctx = settings.sequences * settings.padded_context
        params.n_batch, params.n_ubatch = settings.batch, settings.ubatch
        params.n_seq_max = settings.sequences
        params.n_threads = params.n_threads_batch = settings.threads
        params.kv_unified = False
        params.flash_attn_type = FLASH_ATTENTION_ON
        params.type_k = GGML_TYPE_F16
        params.type_v = GGML_TYPE_BF16 if settings.exact else GGML_TYPE_F16
        self._abort = ctypes.create_string_buffer(ABORT_BYTES)
        params.abort_callback = ctypes.cast(ctypes.CDLL(None).strlen, ctypes.c_void_p).value
        params.abort_callback_data = ctypes.addressof(self._abort)
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

    def run_once(self) -> None:
        """One token through all layers, and forgotten again: what is only made or mapped at the first step is there then. Raises
        KernelsError where not even that can be computed."""
        self.tokens[0] = self.positions[0] = self.slots[0] = 0
        self.wanted[0] = 1
        code = self.decode(1)
        if code or not self.cut(0, 0):
            raise KernelsError(f"the model cannot be run (code {code}): {self.model.library.complaints()}")

    def decode(self, rows: int) -> int:
        """Run the first `rows` rows of the arrays. 0 is success; see `llama_decode` for the rest. Releases the GIL."""
        self._batch.n_tokens = rows
        self._abort[0] = b"\0"
        code: int = self.calls.llama_decode(self.pointer, self._batch)
        return code

    def abort(self) -> None:
        """Stop the decode that runs now, if any: it returns a code other than 0. May be called from any thread."""
        self._abort[0] = b"!"

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

    def save(self, slot: int) -> State | None:
        """What the slot holds, to be restored in any slot of this context; None where it cannot be had."""
        size = self.calls.llama_state_seq_get_size(self.pointer, slot)
        state: State = np.empty(size, np.uint8)
        done = self.calls.llama_state_seq_get_data(self.pointer, state.ctypes.data, size, slot)
        return state if size and done == size else None

    def restore(self, slot: int, state: State) -> bool:
        """Put a saved state into a slot, whatever it held before. False: the slot is empty now."""
        done = self.calls.llama_state_seq_set_data(self.pointer, state.ctypes.data, state.size, slot)
        if done == state.size:
            return True
        self.cut(slot, 0)
        return False

    def set_threads(self, threads: int) -> None:
        """Compute with so many threads from the next decode on."""
        self.calls.llama_set_n_threads(self.pointer, threads, threads)

    def close(self) -> None:
        """Free it, before its model. Idempotent."""
        if self.pointer:
            self.calls.llama_free(self.pointer)
            self.pointer = None
