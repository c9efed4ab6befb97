"""How long prompts may hold up those who decode: an account in seconds.

Kernels go through the whole model once for each pass, and the rows of a prompt are a pass of their own beside those that decode one row
each: a few of them take nearly as long as many. So rows are not given out in every step but saved up for. Each step in which
somebody decodes earns what it may be longer than decoding alone, on the mean: `stretch_max` times, or as long as it will take when all
who are here decode, if that is longer. (Without the second, one early decoder would hold a crowd of prompts to its own quick pace, and
the engine would be half empty.) Prompts run when the account holds what a worthwhile number of rows takes.

What can be saved is bounded, and with it how long a single step can become: by `prefill_s_max`, where a step does not earn more. So
a short prompt that comes after some quiet steps runs at once, in one step; a long one has such a step at its beginning, and goes on at
the mean pace.
"""

from __future__ import annotations

from collections.abc import Sequence as Sequences
from math import inf

from cordee.policy.plan import Limits
from cordee.policy.sequence import Sequence
from cordee.policy.stepcost import StepCost


class Allowance:
    """Of one engine, over all steps."""

    __slots__ = ("_saved_s",)

    def __init__(self) -> None:
        self._saved_s = 0.0

    def of_step(self, decoding: int, prompts: Sequences[Sequence], limits: Limits, cost: StepCost) -> float:
        """Seconds that prompts may add to a step in which so many decode; 0: none runs in it."""
        if not decoding:
            return limits.prefill_s_max or inf
        if not limits.stretch_max:
            return inf
        alone_s = cost.decode_s(decoding)
        all_s = cost.decode_s(decoding + len(prompts))
        earned_s = max(alone_s * limits.stretch_max, all_s) - alone_s
        needed_s = min((_least_s(one, limits, cost) for one in prompts), default=0.0)
        self._saved_s = min(self._saved_s + earned_s, max(limits.prefill_s_max, needed_s, earned_s))
        if not prompts or cost.wants_look() or self._saved_s < needed_s:
            return 0.0
        return self._saved_s

    def spend(self, seconds: float) -> None:
        """What the prompts of a step take that others wait for."""
        self._saved_s -= seconds


def _least_s(one: Sequence, limits: Limits, cost: StepCost) -> float:
    """What the fewest rows of a prompt take that are worth a pass."""
    return cost.prefill_s(one.computed, one.computed + min(one.left, limits.prefill_tokens_min))
