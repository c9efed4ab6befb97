"""How one replica does, for comparing it with its pool: moving averages of what its attempts show. Old news are forgotten, so that
a replica that is asked little is judged by what is known now."""

from __future__ import annotations

WEIGHT = 0.25  # of one observation: four of them make most of the mean
FAULT_WEIGHT = 0.05  # of one end, good or bad: a share that is believed after some twenty of them
SEEN_MIN = 3  # observations below which nobody is judged


class Pace:
    """Seconds to the first token, seconds from token to token, and the share of attempts that end by its fault."""

    __slots__ = ("ends", "faults", "first_s", "firsts", "noted_s", "token_s", "tokens")

    def __init__(self) -> None:
        self.noted_s = float("-inf")
        self.forget()

    def forget(self) -> None:
        self.first_s = self.token_s = self.faults = 0.0
        self.firsts = self.tokens = self.ends = 0

    def noted(self, now: float, first_s: float, token_s: float) -> None:
        """How fast an attempt went: seconds to its first token and from token to token; negative where that is not known."""
        self.noted_s = now
        if first_s >= 0:
            self.firsts += 1
            self.first_s += (first_s - self.first_s) * (WEIGHT if self.firsts > 1 else 1.0)
        if token_s >= 0:
            self.tokens += 1
            self.token_s += (token_s - self.token_s) * (WEIGHT if self.tokens > 1 else 1.0)

    def waited(self, now: float, waited_s: float) -> None:
        """An attempt has waited that long for its first token and goes on waiting: news only if it is worse than the mean."""
        if waited_s > self.first_s:
            self.noted(now, waited_s, -1.0)

    def succeeded(self) -> None:
        self.ends += 1
        if self.faults:
            self.faults -= self.faults * FAULT_WEIGHT

    def failed(self, now: float) -> None:
        self.noted_s = now
        self.ends += 1
        self.faults += (1.0 - self.faults) * FAULT_WEIGHT

    @property
    def is_known(self) -> bool:
        return self.firsts >= SEEN_MIN or self.tokens >= SEEN_MIN or self.ends >= SEEN_MIN
