"""The sequences of the oracle as columns: what makes thousands of them cheap, and its tokens for whole columns at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cordee.engine.job import ROWS, Rows
from cordee.policy import noise, oracle

Slots = NDArray[np.int64]


class Table:
    """One line per slot, one array per column. `serial` tells a line from its predecessors in the same slot."""

    def __init__(self, slots: int) -> None:
        self.serial: NDArray[np.int64] = np.zeros(slots, np.int64)
        self.connection: NDArray[np.uint32] = np.zeros(slots, np.uint32)
        self.handle: NDArray[np.uint32] = np.zeros(slots, np.uint32)
        self.choice: NDArray[np.uint16] = np.zeros(slots, np.uint16)
        self.finish: NDArray[np.uint16] = np.zeros(slots, np.uint16)
        self.seed: NDArray[np.uint64] = np.zeros(slots, np.uint64)
        self.index: NDArray[np.int64] = np.zeros(slots, np.int64)
        self.stop: NDArray[np.int64] = np.zeros(slots, np.int64)
        self.due_s: NDArray[np.float64] = np.zeros(slots, np.float64)
        self.deadline_s: NDArray[np.float64] = np.zeros(slots, np.float64)

    def rows(self, slots: Slots) -> Rows:
        """Rows for these slots, with their finish and token still zero."""
        rows = np.zeros(len(slots), ROWS)
        rows["handle"], rows["choice"], rows["index"] = self.handle[slots], self.choice[slots], self.index[slots]
        return rows


def tokens_at(seeds: NDArray[np.uint64], indexes: NDArray[np.int64]) -> NDArray[np.uint32]:
    """`policy.oracle.token_at` for arrays of seeds and indexes."""
    golden = np.uint64(noise.GOLDEN)
    bits = _mixed(_mixed(seeds + golden) + (indexes.astype(np.uint64) + np.uint64(1)) * golden)
    return (bits % np.uint64(oracle.VOCABULARY)).astype(np.uint32)


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(noise.FIRST_FACTOR)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(noise.SECOND_FACTOR)
    return values ^ (values >> np.uint64(31))
