"""How long prompts may hold up those who decode: an account in seconds.

Kernels go through the whole model once for each pass, and the rows of a prompt are a pass of their own beside those that decode one row
each: a few of them take nearly as long as many. So rows are not given out in every step but saved up for. Each step in which
somebody decodes earns what it may be longer than decoding alone, on the mean: `stretch_max` times, or as long as it will take when all
who are here decode, if that is longer. (Without the second, one early decoder would hold a crowd of prompts to its own quick pace, and
the engine would be half empty.)

What can be saved is bounded, and with it how long a single step can become: by `prefill_s_max`, where a step does not earn more. A
short prompt, which takes no longer than that, runs as a whole as soon as the account holds what it takes: it holds the others up
once. A long one moves on whenever the account holds what is worth a pass: `prefill_tokens_min` rows, or as much time as decoding alone
takes, if that is less; far into a long prompt a few rows take that long, and the price of a pass is small beside them.
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
        needed_s = min((_needed_s(one, alone_s, limits, cost) for one in prompts), default=0.0)
        self._saved_s = min(self._saved_s + earned_s, max(limits.prefill_s_max, needed_s, earned_s))
        if not prompts or cost.wants_look() or self._saved_s < needed_s:
            return 0.0
        return self._saved_s

    def spend(self, seconds: float) -> None:
        """What the prompts of a step take that others wait for."""
        self._saved_s -= seconds


def _needed_s(one: Sequence, alone_s: float, limits: Limits, cost: StepCost) -> float:
    """What the least takes that a prompt moves on by."""
    whole_s = cost.prefill_s(one.computed, one.length)
    if whole_s <= limits.prefill_s_max:
        return whole_s
    return min(alone_s, cost.prefill_s(one.computed, one.computed + min(one.left, limits.prefill_tokens_min)))
