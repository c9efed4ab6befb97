"""How surprised a model is by a text: the measure by which a model that was changed is compared with what it was.

The text is cut into windows that the model reads from their beginning; the first tokens of each, which have little before them, are
read and not counted. Two models of one vocabulary are compared token by token: what both find hard cancels out, so the difference
is known much better than either value (Jelinek et al., 1977, for the measure; a paired comparison of means for the difference).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cordee.kernels.context import Context, ContextSettings
from cordee.kernels.library import KernelsError
from cordee.kernels.llama import Model

WINDOW = 512  # tokens: the length that published figures use
UNCOUNTED = 32  # of each window
ROWS = 64  # whose logits are had at once: those of a whole window would be a hundred megabytes

Surprises = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Perplexity:
    """`error`: one standard error of `value`."""

    value: float
    error: float


def surprises(model: Model, text: bytes, threads: int, progress: Callable[[int, int], None]) -> Surprises:
    """Minus the natural logarithm of each counted token's probability. Raises KernelsError."""
    ids = list(model.tokenize(text, special=False))
    window = min(WINDOW, model.trained_context or WINDOW)
    start = [model.start_token()] if model.wants_start() else []
    body = window - len(start)
    context = Context(model, ContextSettings(1, window, ROWS, ROWS, threads, exact=True))
    found: list[Surprises] = []
    try:
        for at in range(0, len(ids) - UNCOUNTED, body):
            found.append(_window(context, start + ids[at : at + body]))
            progress(min(at + body, len(ids)), len(ids))
    finally:
        context.close()
    return np.concatenate(found)


def perplexity(of: Surprises) -> Perplexity:
    mean = float(of.mean())
    return Perplexity(math.exp(mean), math.exp(mean) * _error(of))


def growth(before: Surprises, after: Surprises) -> Perplexity:
    """By what factor the perplexity grew, less one; of the same tokens."""
    assert before.shape == after.shape, "texts that were cut otherwise cannot be compared"
    difference = after - before
    factor = math.exp(float(difference.mean()))
    return Perplexity(factor - 1, factor * _error(difference))


def _error(numbers: Surprises) -> float:
    return float(numbers.std(ddof=1)) / math.sqrt(len(numbers))


def _window(context: Context, ids: list[int]) -> Surprises:
    context.cut(0, 0)
    told: list[Surprises] = []
    for start in range(0, len(ids), ROWS):
        piece = ids[start : start + ROWS]
        count = len(piece)
        context.tokens[:count] = piece
        context.positions[:count] = np.arange(start, start + count)
        context.slots[:count] = 0
        context.wanted[:count] = 1
        if code := context.decode(count):
            raise KernelsError(f"the text could not be computed (code {code}): {context.model.library.complaints()}")
        following = np.array(ids[start + 1 : start + count + 1])
        logits = context.logits(count)[: len(following)].astype(np.float64)
        most = logits.max(axis=1)
        total = np.log(np.exp(logits - most[:, None]).sum(axis=1)) + most
        told.append(total - logits[np.arange(len(following)), following])
    return np.concatenate(told)[UNCOUNTED:]
