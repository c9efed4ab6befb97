"""What the step loop asks of the kernels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cordee.engine.job import Tokens
from cordee.engine.sample import Matrix
from cordee.policy.batch import Chunk


class StepFailed(Exception):
    """The kernels could not run a step; the message says what they said."""


class EngineBroken(Exception):
    """No step can be run any more."""


class Runner(Protocol):
    """The kernels, one step at a time. Used by one thread only. Whatever leaves something in a slot may say that it could not: the
    slot is empty then."""

    def run(self, chunks: Sequence[Chunk], tokens: Sequence[Tokens]) -> Matrix:
        """Compute the chunks; `tokens[i]` are those of `chunks[i]`. One row of logits for each wanted row of each chunk, in
        order, valid until the next call. Raises StepFailed, after which `cut` must restore each slot."""
        ...

    def use(self, adapter: str) -> None:
        """Lay this adapter over the model from the next `run` on, "" for none. Raises StepFailed."""
        ...

    def copy(self, source: int, target: int, tokens: int) -> bool:
        """Make slot `target` the first `tokens` tokens of slot `source`, by the next `run`."""
        ...

    def cut(self, slot: int, tokens: int) -> None:
        """Keep only the first `tokens` tokens of a slot. Raises StepFailed where this kind of model cannot; it can always keep none."""
        ...

    def save(self, slot: int, key: int) -> int:
        """Keep what a slot holds under a name. Returns how many bytes that took, 0 where it could not be done."""
        ...

    def restore(self, key: int, slot: int) -> int:
        """Put what was kept into a slot, and forget it. Returns how many bytes, 0 where it could not be done."""
        ...

    def drop(self, key: int) -> None:
        """Forget what was kept. Idempotent."""
        ...

    def set_threads(self, threads: int) -> None:
        """Compute with so many from the next `run` on."""
        ...
