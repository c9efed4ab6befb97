"""Decides when a silent peer is taken for frozen.

Phi accrual (Hayashibara et al., 2004): the longer the silence compared with the usual gaps between messages, the higher the
suspicion; the threshold adapts to the observed jitter, because a starved two-core machine is not a dead worker. A floor keeps
a very regular peer from being suspected for one late message. A false suspicion costs work, never an answer.
"""

from __future__ import annotations

import math

WEIGHT = 0.05  # of a new gap in the running mean and variance: about the last twenty
PRIOR_SHARE = 0.5  # the spread assumed at first, as a share of the expected gap


class Suspicion:
    """One per connection. Gaps count only between `heard` calls while something is expected."""

    __slots__ = ("_floor_s", "_heard_s", "_mean_s", "_variance", "_z")

    def __init__(self, now: float, expected_gap_s: float, floor_s: float, phi: float) -> None:
        self._floor_s = floor_s
        self._z = deviations(phi)
        self._mean_s = expected_gap_s
        self._variance = (expected_gap_s * PRIOR_SHARE) ** 2
        self._heard_s = now

    @property
    def threshold_s(self) -> float:
        """The silence from which on the peer is suspect."""
        return max(self._floor_s, self._mean_s + self._z * math.sqrt(self._variance))

    @property
    def due_s(self) -> float:
        """When the peer will be suspect if it stays silent until then."""
        return self._heard_s + self.threshold_s

    def expect(self, now: float) -> None:
        """From now on something should come in: silence before this says nothing."""
        self._heard_s = now

    def heard(self, now: float) -> None:
        gap = now - self._heard_s
        self._heard_s = now
        apart = gap - self._mean_s
        self._mean_s += WEIGHT * apart
        self._variance += WEIGHT * (apart * apart - self._variance)

    def excuse(self, lateness_s: float) -> None:
        """The observer itself was late: that much of the silence is not the peer's."""
        self._heard_s += lateness_s

    def ask(self, now: float) -> bool:
        """Is the peer suspect?"""
        return now - self._heard_s > self.threshold_s

    def silence_s(self, now: float) -> float:
        return now - self._heard_s


def deviations(phi: float) -> float:
    """How many standard deviations above the mean make a suspicion of `phi` = −log10 P(a gap at least this long)."""
    low, high, target = 0.0, 40.0, 10.0**-phi
    for _ in range(60):
        middle = (low + high) / 2
        if 0.5 * math.erfc(middle / math.sqrt(2)) > target:
            low = middle
        else:
            high = middle
    return high
