"""How a context of llama.cpp is made. Free of numpy: whoever plans memory reads it without loading any kernels."""

from __future__ import annotations

from dataclasses import dataclass

CONTEXT_PAD = 256  # llama.cpp rounds the cache of a sequence up to this


@dataclass(frozen=True, slots=True)
class ContextSettings:
    """`slots` sequences run at once, and `spare` more are kept for what was computed of others. `context` is tokens for each of
    them; `batch` the most rows of one decode, `ubatch` of one pass through the layers."""

    slots: int
    context: int
    batch: int
    ubatch: int
    threads: int
    exact: bool
    spare: int = 0

    @property
    def sequences(self) -> int:
        return self.slots + self.spare

    @property
    def padded_context(self) -> int:
        """Tokens of cache that are reserved for one sequence."""
        return -(-self.context // CONTEXT_PAD) * CONTEXT_PAD
