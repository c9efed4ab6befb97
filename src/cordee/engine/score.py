"""How probable given tokens are, from logits: the model's own log-probabilities, as those reported beside drawn tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cordee.engine.job import Tokens

Scores = NDArray[np.float32]


def log_probabilities(logits: NDArray[np.float32], tokens: Tokens) -> Scores:
    """For each row of `logits` the log-probability of the token of that row. Not a number where the logits are none."""
    top = logits.max(axis=1)
    with np.errstate(invalid="ignore"):
        total = np.exp(logits - top[:, None]).sum(axis=1, dtype=np.float64)
        chosen = logits[np.arange(len(tokens)), tokens].astype(np.float64)
        found: Scores = (chosen - (top.astype(np.float64) + np.log(total))).astype(np.float32)
    return found
