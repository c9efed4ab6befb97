"""Decides how far service is cut down when there is more load than capacity: one step at a time, in one closed order.

The signal is how long the line of interactive and standard calls takes at the measured rate; for the last two steps, which
refuse calls of every class, that of interactive calls alone: as long as those get through, refusing the others one by one at the
queue is the better way. Batch calls are in neither: they only ever get what is left over, so a flood of them degrades nobody,
and holding them back does not make the signal fall.

A step is entered when the wait has been above its threshold for `climb_s`, and left when it has been below `leave_share` of it
for `dwell_s`. The distance between the two and the time to dwell are what keeps the steps from flapping: taking a step shortens
the wait, and leaving it at once would bring the wait back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Step(IntEnum):
    """What is given up, in this order. Each step keeps those before it."""

    NORMAL = 0
    HEDGING_OFF = 1  # no second attempts for late first tokens
    BATCH_HELD = 2  # batch calls wait
    CAPPED = 3  # answers of the lowest class are shorter
    CACHE_ONLY = 4  # only what costs no seat: repeats of kept answers, receipts, streams that go on
    REFUSE = 5  # new calls are refused before their bodies are read


@dataclass(frozen=True, slots=True)
class DegradeRules:
    """`waits_s`: the expected waits at which the steps after NORMAL are entered, ascending; of interactive calls for CACHE_ONLY
    and REFUSE. At `utilisation` of all seats in use hedging goes off too."""

    waits_s: tuple[float, ...] = (0.5, 1.0, 2.0, 10.0, 20.0)
    utilisation: float = 0.9
    leave_share: float = 0.5
    climb_s: float = 0.5
    dwell_s: float = 2.0


class Ladder:
    """One per gateway."""

    __slots__ = ("_above_since_s", "_below_since_s", "changes", "rules", "step")

    def __init__(self, rules: DegradeRules) -> None:
        self.rules = rules
        self.step = Step.NORMAL
        self.changes = 0
        self._above_since_s: float | None = None
        self._below_since_s: float | None = None

    def note(self, now: float, wait_s: float, urgent_s: float, utilisation: float) -> Step:
        """The signals as of `now`, several times a second: expected waits, of interactive and standard calls together and of
        interactive ones alone. Returns the step that holds from now on."""
        enters_s = urgent_s if self.step + 1 >= Step.CACHE_ONLY else wait_s
        leaves_s = urgent_s if self.step >= Step.CACHE_ONLY else wait_s
        self._above_since_s = self._since(self._above_since_s, now, self._should_climb(enters_s, utilisation))
        self._below_since_s = self._since(self._below_since_s, now, self._may_leave(leaves_s, utilisation))
        if self._above_since_s is not None and now - self._above_since_s >= self.rules.climb_s:
            self._go(Step(self.step + 1))
        elif self._below_since_s is not None and now - self._below_since_s >= self.rules.dwell_s:
            self._go(Step(self.step - 1))
        return self.step

    def _should_climb(self, wait_s: float, utilisation: float) -> bool:
        if self.step is Step.REFUSE:
            return False
        if self.step is Step.NORMAL and utilisation >= self.rules.utilisation:
            return True
        return wait_s > self.rules.waits_s[self.step]

    def _may_leave(self, wait_s: float, utilisation: float) -> bool:
        if self.step is Step.NORMAL or wait_s >= self.rules.leave_share * self.rules.waits_s[self.step - 1]:
            return False
        return self.step is not Step.HEDGING_OFF or utilisation < self.rules.utilisation

    def _go(self, step: Step) -> None:
        self.step = step
        self.changes += 1
        self._above_since_s = self._below_since_s = None

    @staticmethod
    def _since(before: float | None, now: float, holds: bool) -> float | None:
        return None if not holds else now if before is None else before
