"""One choice held to a grammar: which tokens may come next, and whether its text is complete.

What may come next depends on the tokens that came before and on nothing else, so an answer that goes on elsewhere is held by a new
constraint that has been told what was said.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from cordee.kernels.grammar import GrammarError, refuse_broken

FORBIDDEN = np.float32(-np.inf)


class ConstraintError(Exception):
    """The grammar has become too much for its limits in the middle of an answer."""


class Constraint:
    """Used by one thread at a time. `ends`: the token ids that end an answer."""

    __slots__ = ("_ends", "_matcher", "_told", "end", "is_complete")

    def __init__(self, matcher: LLMatcher, ends: Sequence[int], said: Sequence[int] = ()) -> None:
        """`said`: what the choice has emitted so far. Raises ConstraintError if that is not what the grammar allows."""
        self._matcher = matcher
        self._ends: NDArray[np.int64] = np.array(ends, np.int64)
        self._told = 0
        self.end = int(ends[0])
        self.is_complete = False
        if said and not matcher.consume_tokens(list(said)):
            raise ConstraintError(f"the {len(said)} tokens that were answered so far are none of the grammar")
        self._told = len(said)
        self.is_complete = matcher.is_stopped()

    def said(self, token: int) -> None:
        """The choice has emitted `token`, which was allowed."""
        self._told += 1
        self._matcher.consume_token(token)
        self.is_complete = self._matcher.is_stopped() and not self._matcher.is_error()

    def mask(self, row: NDArray[np.float32]) -> bool:
        """Take all tokens from the logits that may not come next, in place. False: nothing may but the end of the answer.
        Raises ConstraintError."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        try:
            refuse_broken(self._matcher)
        except GrammarError as error:
            raise ConstraintError(
                f"the grammar needs more work than a token may cost, after {self._told} tokens: {error}; simplify it"
            ) from error
        allowed = np.unpackbits(bits, count=len(row), bitorder="little").view(np.bool_)
        if np.count_nonzero(allowed) == np.count_nonzero(allowed[self._ends]):
            return False
        np.copyto(row, FORBIDDEN, where=~allowed)
        return True
