"""Decides whether a replica may be asked, from how its last attempts ended.

It counts only faults of the replica: a client's mistake, a client's leaving and "busy" are not noted here at all. After
`failures` in a row it opens; when the pause is over one attempt at a time is let through as a probe, and its end decides.
The idea is Nygard's circuit breaker (Release It!, 2007) with the jittered, doubling pause of the common HTTP proxies.
"""

from __future__ import annotations

from dataclasses import dataclass

JITTER = 0.2  # ± share of a pause, so that several gateways do not probe in step


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """`failures` in a row open it for `open_s`, doubled at each failed probe up to `open_s_max`."""

    failures: int = 3
    open_s: float = 1.0
    open_s_max: float = 30.0


class Breaker:
    """One per replica and gateway."""

    __slots__ = ("_failures", "_open_until_s", "_pause_s", "_probing", "_rules", "is_closed")

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        self._failures = 0
        self._pause_s = 0.0
        self._open_until_s = 0.0
        self._probing = False
        self.is_closed = True

    def ask(self, now: float) -> bool:
        """May an attempt go to this replica now?"""
        if self.is_closed:
            return True
        return not self._probing and now >= self._open_until_s

    def began(self) -> None:
        """An attempt went out; if the breaker is open it is the probe."""
        if not self.is_closed:
            self._probing = True

    def succeeded(self) -> None:
        self._failures = 0
        self._pause_s = 0.0
        self.is_closed = True
        self._probing = False

    def ended_neutrally(self) -> None:
        """The attempt says nothing about the replica: its probe, if it was one, is given back."""
        self._probing = False

    def failed(self, now: float, noise: float) -> None:
        """`noise` in [0, 1) spreads the pause. Attempts that began before it opened and fail after it say nothing new: one
        crash that ends fifty calls is one reason to pause, not fifty."""
        was_open = not self.is_closed
        if was_open and not self._probing:
            return
        self._failures += 1
        self._probing = False
        if not was_open and self._failures < self._rules.failures:
            return
        self._pause_s = min(
            self._rules.open_s_max, self._pause_s * 2 if was_open and self._pause_s else self._rules.open_s
        )
        self.is_closed = False
        self._open_until_s = now + self._pause_s * (1 + JITTER * (2 * noise - 1))
