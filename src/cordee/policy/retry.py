"""Decides whether there is budget for another attempt at a replica that may already have worked.

Why a budget and not a maximum per call: when everything fails, a maximum of two retries still triples the load on what is
left. A bucket filled by a share of the first attempts bounds the extra work instead (Finagle's and Linkerd's retry budgets;
Google SRE book, chapter 21). A small floor fills it in quiet times; it does not add to the share, so that under load the extra
work is the share and no more.
"""

from __future__ import annotations

from dataclasses import dataclass

BURST_S = 10.0  # the floor may save up this many seconds


@dataclass(frozen=True, slots=True)
class RetryRules:
    """`ratio` retries per first attempt, or `per_s` a second where that is more."""

    ratio: float = 0.1
    per_s: float = 10.0


class RetryBudget:
    """One per pool and gateway."""

    __slots__ = ("_at_s", "_firsts", "_level", "_level_max", "_rules")

    def __init__(self, rules: RetryRules, now: float) -> None:
        self._rules = rules
        self._level_max = max(1.0, rules.per_s * BURST_S)
        self._level = self._level_max
        self._firsts = 0
        self._at_s = now

    def follow(self, rules: RetryRules) -> None:
        """From now on by these."""
        self._rules = rules
        self._level_max = max(1.0, rules.per_s * BURST_S)
        self._level = min(self._level, self._level_max)

    def first_attempt(self) -> None:
        self._firsts += 1

    def ask(self, now: float) -> bool:
        """Spend one retry if there is one."""
        earned = max(self._firsts * self._rules.ratio, max(0.0, now - self._at_s) * self._rules.per_s)
        self._level = min(self._level_max, self._level + earned)
        self._firsts = 0
        self._at_s = now
        if self._level < 1.0:
            return False
        self._level -= 1.0
        return True
