"""Decides whether a replica may be asked, from how its last attempts ended.

It counts only faults of the replica: a client's mistake, a client's leaving, "busy" and trouble of our own are never noted as
faults. It opens by the fast path, `failures` in a row, or by the slow one, a share of all attempts of a window that came from
several calls and, where several tenants call, from more than one of them: nobody's bad requests shut a replica out for the
others. When the pause is over one attempt is let through as a probe, a synthetic one first where there are any, and its end
decides. The idea is Nygard's circuit breaker (Release It!, 2007) with the jittered, doubling pause of the common HTTP proxies.

Every attempt carries the number it was given when it began. What began before the breaker opened says nothing new when it ends
after that: one crash that ends fifty calls is one reason to pause, and a success that is minutes old is no recovery.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

JITTER = 0.2  # ± share of a pause, so that several gateways do not probe in step
SENDERS_MAX = 64  # calls and tenants remembered in one window: only a few have to differ


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """`failures` in a row open it for `open_s`, doubled at each failed probe up to `open_s_max`; so does a share of `share` of at
    least `attempts_min` attempts within `window_s`, if the faults came from `calls_min` calls and, where the window saw several
    tenants, from `tenants_min` of them. `canary_first_s`: how long after the pause only a synthetic call may be the probe."""

    failures: int = 3
    open_s: float = 1.0
    open_s_max: float = 30.0
    window_s: float = 10.0
    share: float = 0.5
    attempts_min: int = 10
    calls_min: int = 3
    tenants_min: int = 2
    canary_first_s: float = 0.0


class Breaker:
    """One per replica and gateway. `number` is what an attempt carries that begins while it is closed."""

    __slots__ = (
        "_failures", "_good", "_last_call", "_opened", "_pause_s", "_probe", "_rules", "_senders", "_tenants",
        "_tenants_good", "_window_bad", "_window_s", "is_closed", "number", "open_until_s", "watchers",
    )  # fmt: skip

    def __init__(self, rules: BreakerRules) -> None:
        self._rules = rules
        self._failures = 0  # in a row
        self._last_call = ""
        self._pause_s = 0.0
        self._probe = 0  # the number of the attempt whose end decides; 0: none is out
        self._opened = 0  # attempts of lower numbers began before it opened last
        self._good = 0  # in the window, which begins with a fault: a success costs one addition and reads no clock
        self._window_s = float("-inf")
        self._window_bad = 0
        self._senders: set[str] = set()
        self._tenants: set[str] = set()
        self._tenants_good: set[str] = set()
        self.is_closed = True
        self.number = 0
        self.open_until_s = 0.0
        self.watchers: list[Callable[[], None]] = []  # told when it opens, closes, or wants another probe

    def follow(self, rules: BreakerRules) -> None:
        """From now on by these; a pause that has begun keeps its length."""
        self._rules = rules

    @property
    def callers_from_s(self) -> float:
        """While it is open: when a caller's attempt may be the probe."""
        return self.open_until_s + self._rules.canary_first_s

    @property
    def probing(self) -> bool:
        return self._probe != 0

    def ask(self, now: float) -> bool:
        """May a caller's attempt go to this replica now?"""
        if self.is_closed:
            return True
        return not self._probe and now >= self.callers_from_s

    def wants_probe(self, now: float) -> bool:
        """Should a synthetic call go there now? It then calls `began`, and reports its end under that number."""
        return not self.is_closed and not self._probe and now >= self.open_until_s

    def began(self, now: float) -> int:
        """An attempt goes out; the number it carries. While the breaker is open and its pause is over it is the probe; before
        that it is one that was sent because nobody else was left, and only its success counts."""
        if self.is_closed:
            return self.number
        self.number += 1
        if self.wants_probe(now):
            self._probe = self.number
        return self.number

    def succeeded(self, number: int | None = None, tenant: str = "") -> None:
        """`number`: what `began` gave it; None for an attempt of now."""
        if self.is_closed:
            self._failures = 0
            self._good += 1
            if self._window_bad and len(self._tenants_good) < SENDERS_MAX:
                self._tenants_good.add(tenant)
        elif number is None or number > self._opened:
            self.close()

    def ended_neutrally(self, number: int | None = None) -> None:
        """The attempt says nothing about the replica: its probe, if it was one, is given back."""
        if self._probe and (number is None or number == self._probe):
            self._probe = 0
            self._tell()

    def failed(
        self,
        now: float,
        noise: float,
        number: int | None = None,
        *,
        call: str = "",
        tenant: str = "",
        ran: bool = False,
    ) -> None:
        """`noise` in [0, 1) spreads the pause. `ran`: the replica may have worked on it; several such faults of one call in a
        row count once, because the call may be the reason."""
        if not self.is_closed:
            if self._probe and (number is None or number == self._probe):
                self._open(now, noise, min(self._rules.open_s_max, self._pause_s * 2 or self._rules.open_s))
            return
        if number is not None and number < self._opened:
            return
        if not (ran and call and call == self._last_call):
            self._failures += 1
        self._last_call = call
        if self._failures >= self._rules.failures or self._is_bad(now, call, tenant):
            self._open(now, noise, self._rules.open_s)

    def close(self) -> None:
        """It is well: a probe succeeded, or a new process has said who it is."""
        was_open, self.is_closed = not self.is_closed, True
        self._failures = 0
        self._pause_s = 0.0
        self._probe = 0
        self._window_bad = self._good = 0
        self._window_s = float("-inf")
        self._last_call = ""
        if was_open:
            self.number += 1
            self._opened = self.number
            self._tell()

    def _is_bad(self, now: float, call: str, tenant: str) -> bool:
        """The slow path: note a fault in its window, and judge the window."""
        rules = self._rules
        if now >= self._window_s + rules.window_s:
            self._window_s = now
            self._window_bad = self._good = 0
            self._senders.clear()
            self._tenants.clear()
            self._tenants_good.clear()
        self._window_bad += 1
        if len(self._senders) < SENDERS_MAX:
            self._senders.add(call)
            self._tenants.add(tenant)
        attempts = self._window_bad + self._good
        if attempts < rules.attempts_min or self._window_bad < rules.share * attempts:
            return False
        tenants_seen = len(self._tenants | self._tenants_good)
        return len(self._senders) >= rules.calls_min and len(self._tenants) >= min(rules.tenants_min, tenants_seen)

    def _open(self, now: float, noise: float, pause_s: float) -> None:
        self._pause_s = pause_s
        self._probe = 0
        self.is_closed = False
        self.number += 1
        self._opened = self.number
        self.open_until_s = now + pause_s * (1 + JITTER * (2 * noise - 1))
        self._tell()

    def _tell(self) -> None:
        for watcher in self.watchers:
            watcher()
