"""What the oracle answers: token i of an answer is a function of its seed and i, and so is the answer's length.

Whoever knows the seed can recompute the whole answer: a lost, doubled or misplaced token is seen at once, without a model.
"""

from __future__ import annotations

from cordee.policy.noise import bits

VOCABULARY = 1 << 16  # token ids 0 … 65535: four hexadecimal digits each
LENGTH_MIN = 16  # tokens: long enough to be cut in the middle
LENGTH_MAX = 512
LENGTH_POSITION = -1  # the position whose noise gives the length; tokens use 0 and up


def token_at(seed: int, index: int) -> int:
    """Output token number `index` of the answer to `seed`."""
    return bits(seed, index) % VOCABULARY


def length_for(seed: int) -> int:
    """How many tokens the answer to `seed` has when nothing cuts it short: LENGTH_MIN … LENGTH_MAX."""
    return LENGTH_MIN + bits(seed, LENGTH_POSITION) % (LENGTH_MAX - LENGTH_MIN + 1)


def answer_length(seed: int, max_tokens: int, min_tokens: int = 0, *, ignore_eos: bool = False) -> int:
    """How many tokens an oracle worker emits. Shorter than `max_tokens`: it ends with STOP, else with LENGTH."""
    if ignore_eos:
        return max_tokens
    return min(max_tokens, max(min_tokens, length_for(seed)))


def ends_itself(seed: int, max_tokens: int, min_tokens: int = 0, *, ignore_eos: bool = False) -> bool:
    """Whether the answer ends with STOP (its own end comes before `max_tokens`) rather than LENGTH."""
    return not ignore_eos and max(min_tokens, length_for(seed)) < max_tokens
