"""The LoRA adapters that were loaded for a model, and which of them is laid over a context.

llama.cpp applies adapters to a whole context: all rows of a decode have the same ones.
"""

from __future__ import annotations

import ctypes
import os

from cordee.kernels.context import Context
from cordee.kernels.gguf import GGUFError, read_header
from cordee.kernels.layout import Pointer
from cordee.kernels.library import KernelsError
from cordee.kernels.llama import Model
from cordee.kernels.lora import Lora
from cordee.kernels.lora_rows import rows_alike


class Adapters:
    """The adapters of one model, loaded for as long as it is, and which of them is laid over one context. Used by one thread."""

    def __init__(self, model: Model, loras: tuple[Lora, ...]) -> None:
        """`loras` have been found to fit the model. Raises KernelsError."""
        self._calls = model.calls
        self._loaded: dict[str, tuple[object, object]] = {}  # by name: an array of one pointer, and one of its scale
        for lora in loras:
            pointer = _load(model, lora)
            # Freed with the model: llama.cpp keeps its own list of them.
            self._loaded[lora.name] = (Pointer * 1)(pointer), (ctypes.c_float * 1)(lora.scale)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._loaded)

    def use(self, context: Context, name: str) -> None:
        """From the next decode on this one is laid over the model, "" for none. Raises KeyError for a name that is unknown."""
        if not name:
            self._calls.llama_set_adapters_lora(context.pointer, None, 0, None)
            return
        pointer, scale = self._loaded[name]
        self._calls.llama_set_adapters_lora(context.pointer, pointer, 1, scale)


def _load(model: Model, lora: Lora) -> int:
    """From memory: whoever loads adapters may write no files."""
    failed = f"{lora.path} could not be loaded as the adapter {lora.name!r}"
    try:
        content = rows_alike(lora.path, read_header(lora.path))
    except (OSError, GGUFError, KeyError) as error:
        raise KernelsError(f"{failed}: {error}; check it: cordee models verify") from error
    with open(os.memfd_create(lora.name), "wb") as file:
        file.write(content)
        file.flush()
        pointer: int | None = model.calls.llama_adapter_lora_init(
            model.pointer, f"/proc/self/fd/{file.fileno()}".encode()
        )
    if not pointer:
        raise KernelsError(f"{failed}: {model.library.complaints()}; check it: cordee models verify")
    return pointer
