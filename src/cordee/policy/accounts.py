"""Which tokens of a kept answer are new to the accounts, however often and wherever its client comes back.

An answer is accounted for by one gateway at a time: the one that took the call, and, when that is gone, the one that adopts it. What
was delivered by a gateway that died unheard was never accounted for by it, and is not charged for later: who loses the count
loses the money.
"""

from __future__ import annotations


def settled_before(charged: int | None, delivered: int, *, is_accounted: bool) -> int | None:
    """Tokens that are not charged again. `charged`: what was written down, None for nothing yet; `delivered`: what the client
    has; `is_accounted`: somebody else counts this answer now. None: all of them, as somebody else counts."""
    return None if is_accounted else max(charged or 0, delivered)


def new_tokens(tokens: int, charged: int | None) -> int:
    """Of `tokens` that came here from the answer's beginning, those that nobody has charged."""
    return 0 if charged is None else max(0, tokens - charged)
