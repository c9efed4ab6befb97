"""Decides whether there is budget for another attempt at a replica that may already have worked.

Why a budget and not a maximum per call: when everything fails, a maximum of two retries still triples the load on what is
left. A bucket filled by a share of the first attempts, plus a small floor for quiet times, bounds the extra work instead
(Finagle's and Linkerd's retry budgets; Google SRE book, chapter 21).
"""

from __future__ import annotations

from dataclasses import dataclass

BURST_S = 10.0  # the floor may save up this many seconds


@dataclass(frozen=True, slots=True)
class RetryRules:
    """`ratio` retries per first attempt, plus `per_s` a second whatever the traffic."""

    ratio: float = 0.1
    per_s: float = 10.0


class RetryBudget:
    """One per pool and gateway."""

    __slots__ = ("_at_s", "_level", "_level_max", "_rules")

    def __init__(self, rules: RetryRules, now: float) -> None:
        self._rules = rules
        self._level_max = max(1.0, rules.per_s * BURST_S)
        self._level = self._level_max
        self._at_s = now

    def first_attempt(self) -> None:
        level = self._level + self._rules.ratio
        self._level = level if level < self._level_max else self._level_max

    def ask(self, now: float) -> bool:
        """Spend one retry if there is one."""
        self._level = min(self._level_max, self._level + max(0.0, now - self._at_s) * self._rules.per_s)
        self._at_s = now
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True
