"""Decides whether a call whose first token is late is asked for a second time, at another replica.

The tail of the time to the first token comes from one replica that is slow just now, and a second question to another one cuts
it for a few percent of extra work (Dean and Barroso, The Tail at Scale, 2013). Two things keep it from making an overload worse:
a bucket that a share of the calls fills, and an end to it when the pool is well used. Only the first token is hedged for: once
something has left for the client there is nothing to win.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

SEEN_MIN = 20  # first tokens below which nobody knows what is late
SEEN_MAX = 512  # of the newest, from which the quantile is taken
AGED = 32  # first tokens after which it is taken anew: sorting five hundred numbers costs what thirty calls can share
BURST = 5.0  # hedges that a quiet time may save up


@dataclass(frozen=True, slots=True)
class HedgeRules:
    """A call is late beyond the `quantile` of the pool's times to the first token, or 1 − `share` where that is later; at most
    `share` of the calls are asked for twice, and none while more than `utilisation_max` of the pool's sequences are in use."""

    enabled: bool = False
    quantile: float = 0.95
    share: float = 0.02
    utilisation_max: float = 0.7


class Hedge:
    """One per pool and gateway. `is_held`: switched off for now, by whoever sheds load."""

    __slots__ = ("_age", "_level", "_rules", "_seen", "_wait_s", "is_held", "started", "won")

    def __init__(self, rules: HedgeRules) -> None:
        self._rules = rules
        self._seen: deque[float] = deque(maxlen=SEEN_MAX)
        self._age = 0
        self._wait_s: float | None = None
        self._level = 1.0
        self.is_held = False
        self.started = 0
        self.won = 0

    def follow(self, rules: HedgeRules) -> None:
        """From now on by these."""
        self._rules = rules

    def began(self) -> float | None:
        """A call begins its first attempt. The seconds after which its first token is late; None: nobody knows yet."""
        level = self._level + self._rules.share
        self._level = level if level < BURST else BURST
        return None if self.is_held else self._wait_s

    def note(self, first_s: float) -> None:
        """How long a first attempt took to its first token."""
        seen = self._seen
        seen.append(first_s)
        self._age += 1
        if self._age >= AGED or (self._wait_s is None and len(seen) >= SEEN_MIN):
            self._age = 0
            # Waiting for an earlier quantile than the bucket can pay for would spend it on calls that answer a moment later.
            quantile = max(self._rules.quantile, 1.0 - self._rules.share)
            self._wait_s = sorted(seen)[min(len(seen) - 1, int(quantile * len(seen)))]

    def ask(self, utilisation: float) -> bool:
        """May a late call be asked for again now? Spends one hedge. `utilisation`: sequences in use over all of them."""
        if self.is_held or utilisation > self._rules.utilisation_max or self._level < 1.0:
            return False
        self._level -= 1.0
        self.started += 1
        return True
