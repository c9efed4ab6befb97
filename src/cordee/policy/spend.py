"""Decides whether there is money left today for one more call outside.

The dearest that a call can become is reserved before it leaves; when it is over, what it cost takes the reservation's place.
So what was spent and what may still become due are never above the cap together. Where a provider counts more than was
thought possible (its own system prompt, a picture), the sum may pass the cap by what that one request was underestimated.

Days are those of UTC. A clock that is set back does not give money back: the day never goes backwards.

What was promised is written down ahead in steps of a share of the cap, by whoever calls `ahead`: after a crash the last
written step counts as spent, so a restart cannot spend a day's money twice. Several gateways have a share of the cap each.
"""

from __future__ import annotations

from dataclasses import dataclass

STEP_SHARE = 0.02  # of the cap: at most fifty writes a day


@dataclass(frozen=True, slots=True)
class Price:
    """In the configured currency, per million tokens."""

    tokens_in: float = 0.0
    tokens_out: float = 0.0

    def of(self, tokens_in: int, tokens_out: int) -> float:
        return (tokens_in * self.tokens_in + tokens_out * self.tokens_out) / TOKENS_PRICED


TOKENS_PRICED = 1_000_000


class Spend:
    """One per gateway. `cap`: money a UTC day, None for no limit. `day`: the number of the day, from `now_utc_s // 86 400`."""

    __slots__ = ("cap", "day", "reserved", "spent", "written")

    def __init__(self, cap: float | None, day: int, spent: float = 0.0) -> None:
        """`spent`: what an earlier run of this process had written down for `day`."""
        self.cap = cap
        self.day = day
        self.spent = self.written = spent
        self.reserved = 0.0

    def reserve(self, day: int, most: float) -> bool:
        """Set the most that a call can cost aside. False: the cap forbids it."""
        self._turn(day)
        if self.cap is not None and self.spent + self.reserved + most > self.cap:
            return False
        self.reserved += most
        return True

    def settle(self, day: int, most: float, cost: float) -> None:
        """The call is over: `cost` in the place of what `reserve` set aside for it."""
        self._turn(day)
        self.reserved = max(0.0, self.reserved - most)
        self.spent += cost

    def ahead(self) -> float | None:
        """What to write down before more is spent, None while the last one covers it."""
        due = self.spent + self.reserved
        if due <= self.written:
            return None
        step = STEP_SHARE * self.cap if self.cap is not None else 0.0
        self.written = max(due, self.written + step)
        return self.written

    def left(self, day: int) -> float | None:
        """Of today's cap; None for no limit."""
        self._turn(day)
        return None if self.cap is None else max(0.0, self.cap - self.spent - self.reserved)

    def _turn(self, day: int) -> None:
        if day > self.day:
            self.day = day
            self.spent = self.written = 0.0  # what is still reserved is settled on the new day
