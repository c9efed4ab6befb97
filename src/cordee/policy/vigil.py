"""Whether a guest that runs can be believed: a server of another make that says it is well may have an engine that is dead.

Signs of life are answers of the engine itself: a token for a question of ours, or a count of tokens that has grown since the last
look. A page of figures is none, the process that writes it need not be the one that computes. After `canary_s` without a sign it
is asked; what has not answered `answer_s` later is not used, and after as long again it is given up. The same patience holds for
its figures.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Trust(Enum):
    """What is to be done with it."""

    USED = "used"
    SPARED = "spared"  # no new calls
    LOST = "lost"  # it is ended and started anew


@dataclass(frozen=True, slots=True)
class VigilRules:
    """Times in seconds. `canary_s` 0: it is never asked."""

    canary_s: float
    answer_s: float


class Vigil:
    """Over one life of a guest, from the moment `now` at which it was found well."""

    def __init__(self, rules: VigilRules, now: float) -> None:
        self.rules = rules
        self._alive_s = self._heard_s = now
        self._steps = 0

    def figures(self, now: float, steps: int) -> None:
        """It told its figures; `steps` are the tokens it has computed in its life."""
        self._heard_s = now
        if steps != self._steps:
            self._steps = steps
            self._alive_s = now

    def answered(self, now: float) -> None:
        """Our question was answered."""
        self._alive_s = now

    def should_ask(self, now: float) -> bool:
        """Whether a question is due; while one is open nobody needs to look."""
        return self.rules.canary_s > 0 and now - self._alive_s >= self.rules.canary_s

    def trust(self, now: float) -> Trust:
        """As of `now`."""
        quiet_s = now - self._heard_s
        if self.rules.canary_s > 0:
            quiet_s = max(quiet_s, now - self._alive_s - self.rules.canary_s)
        if quiet_s < self.rules.answer_s:
            return Trust.USED
        return Trust.SPARED if quiet_s < 2 * self.rules.answer_s else Trust.LOST
