"""Whether the logits of a token depend on what is computed beside it: measured, because it is the file's types and the processor
that decide.

Kernels for some types of weights multiply in another order as soon as a step has two rows, or six, or sixteen (llama.cpp chooses
between vector, tiled and packed kernels by the number of rows). So one short sequence is computed row by row, then beside others of
its kind, then at once in pieces of several sizes; all must be the same bit for bit. It costs as much as a prompt of some
sixty tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np

from cordee.engine.job import Tokens
from cordee.engine.loop import Runner
from cordee.engine.sample import Matrix
from cordee.policy.batch import Chunk

ALONE = 3  # tokens that are computed one by one: those that everything else is compared with
AT_ONCE = (33, 6, 2)  # rows of one step, on both sides of where kernels were seen to change; the largest first
BESIDE_MAX = 16  # sequences in one step
STRIDE = 7919  # a prime, so that the tokens lie all over the vocabulary


def deviation(runner: Runner, vocabulary: int, slots: int, rows: int) -> str:
    """When logits were others than those of a row alone, in words; "" where they never were. The slots must be empty, and are empty
    afterwards; a step has room for `rows` rows. Raises StepFailed."""
    ids: Tokens = (np.arange(1, AT_ONCE[0] + 1) * STRIDE % vocabulary).astype(np.int32)
    alone = np.concatenate([_run(runner, ids, {0: (at, 1)}) for at in range(ALONE)])
    runner.cut(0, 0)
    beside = _beside(runner, ids, alone, min(slots, rows, BESIDE_MAX))
    return next(chain(beside, _at_once(runner, ids, alone, rows)), "")


def _beside(runner: Runner, ids: Tokens, alone: Matrix, count: int) -> Iterator[str]:
    """Sequences in one step, one row of each."""
    if count < 2:
        return
    found = _run(runner, ids, dict.fromkeys(range(count), (0, 1)))
    for slot in range(count):
        runner.cut(slot, 0)
    if not all(_equal(row, alone[0]) for row in found):
        yield f"beside {count - 1} others"


def _at_once(runner: Runner, ids: Tokens, alone: Matrix, rows: int) -> Iterator[str]:
    """The beginning of the sequence in one step. What is beyond the rows that were alone is compared with the longest step."""
    longest = alone
    for count in AT_ONCE:
        if count > rows:
            continue
        found = _run(runner, ids, {0: (0, count)})
        runner.cut(0, 0)
        known = min(count, len(longest))
        if not _equal(found[:known], longest[:known]):
            yield f"in a step of {count} rows"
        if longest is alone:
            longest = np.concatenate((alone, found[len(alone) :]))


def _run(runner: Runner, ids: Tokens, pieces: dict[int, tuple[int, int]]) -> Matrix:
    """One step of (start, count) for each slot; the logits of all its rows, which stay valid."""
    chunks: Sequence[Chunk] = [
        Chunk(slot, slot, start, count, last=True, scored=count) for slot, (start, count) in pieces.items()
    ]
    return np.array(runner.run(chunks, [ids[one.start : one.start + one.count] for one in chunks]))


def _equal(one: Matrix, other: Matrix) -> bool:
    """Bit for bit: a zero is not minus zero."""
    return one.tobytes() == other.tobytes()
