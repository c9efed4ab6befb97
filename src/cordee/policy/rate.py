"""Decides whether a caller may ask now: requests per minute and calls at once.

GCRA, the leaky bucket as a virtual schedule: one number per key, exact, no background refill. A quarter of a minute's
requests may come at once.
"""

from __future__ import annotations

from cordee.domain.caller import Caller
from cordee.domain.outcome import Refusal, Why

BURST_SHARE = 0.25
MINUTE_S = 60.0


class Rates:
    """State per key: one entry for each key that has a limit, so it is bounded by the number of keys."""

    __slots__ = ("_due_s", "_open")

    def __init__(self) -> None:
        self._due_s: dict[str, float] = {}
        self._open: dict[str, int] = {}

    def ask(self, now: float, caller: Caller) -> Refusal | None:
        """None: go on, and call `left` when the call has ended."""
        limits = caller.allowances
        if limits.concurrent_calls is not None and self._open.get(caller.key_id, 0) >= limits.concurrent_calls:
            return Refusal(
                Why.CONCURRENCY,
                f"this key may have {limits.concurrent_calls} calls open at once; wait for one to end",
                retry_after_s=1.0,
            )
        if limits.requests_per_minute is not None:
            gap_s = MINUTE_S / limits.requests_per_minute
            burst_s = max(gap_s, MINUTE_S * BURST_SHARE)
            due = max(now, self._due_s.get(caller.key_id, now))
            if due - now > burst_s - gap_s:
                return Refusal(
                    Why.RATE,
                    f"this key may send {limits.requests_per_minute} requests per minute",
                    retry_after_s=due - now - (burst_s - gap_s),
                )
            self._due_s[caller.key_id] = due + gap_s
        if limits.concurrent_calls is not None:
            self._open[caller.key_id] = self._open.get(caller.key_id, 0) + 1
        return None

    def left(self, caller: Caller) -> None:
        if caller.allowances.concurrent_calls is not None:
            self._open[caller.key_id] -= 1
