"""Decides which requests are not given to any worker any more, because they kill those that they are given to.

One crash says little: every call that the worker had could be the reason, and most often none is. So the calls that had no token
yet are suspects, and are run again apart, each on a worker that has nothing else to do; those in the middle of their answers go
on at once, in company. A suspect whose first token comes is cleared, and with it everybody with the same request. A suspect whose
worker dies a second time, while it ran apart, is proven: its request is refused from then on, by a fingerprint of what it asks.
Two workers killed by hand thus accuse nobody: a death counts as proof only of a call that ran apart at the time. (The query of
death, Site Reliability Engineering, chapter 22; request isolation by shuffle sharding, Amazon Builders' Library.)
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

from cordee.domain.call import Call
from cordee.domain.outcome import Refusal, Why

Key = TypeVar("Key", bytes, str)
DIGEST_BYTES = 16
HOUR_S = 3600.0
DEATHS_PER_PROOF = 2  # one made it a suspect, one proved it
MESSAGE = "this request ended the worker that answered it, twice; it is not tried again for {hours:.1f} hours"


@dataclass(frozen=True, slots=True)
class QuarantineRules:
    """A proven request is refused for `for_s`. A suspect waits up to `apart_s` for a worker of its own; then it runs in company,
    one suspect at a time per worker. A tenant whose requests killed `tenant_deaths_max` workers within an hour has its calls run
    one at a time for `for_s`. At most `entries_max` requests and tenants are remembered, the newest."""

    enabled: bool = True
    for_s: float = 3600.0
    apart_s: float = 2.0
    tenant_deaths_max: int = 3
    entries_max: int = 10_000


def fingerprint(call: Call) -> bytes:
    """Equal for calls that ask the same of the same model, whoever asks and whatever the seed."""
    digest = hashlib.blake2b(call.model.encode(), digest_size=DIGEST_BYTES)
    if call.work is not None:
        digest.update(call.work.prompt.tobytes())
        for item in call.work.items:
            digest.update(item.tokens.tobytes())
    else:
        digest.update(call.path.encode())
        digest.update(call.body)
    return digest.digest()


class Quarantine:
    """One per gateway. `is_watching`: false while there is nothing to look for, which is nearly always: then no call is asked
    about. `suspects`: how many calls of each fingerprint are being tried."""

    __slots__ = ("_deaths", "_isolated", "_refused", "is_watching", "proven", "rules", "suspects")

    def __init__(self, rules: QuarantineRules) -> None:
        self.rules = rules
        self.is_watching = False
        self.suspects: dict[bytes, int] = {}
        self.proven = 0
        self._refused: dict[bytes, float] = {}  # until when
        self._deaths: dict[str, deque[float]] = {}  # by tenant, the times
        self._isolated: dict[str, float] = {}  # tenants, until when

    def ask(self, now: float, mark: bytes) -> Refusal | None:
        """None: it may run, apart if `mark` is among the suspects."""
        until_s = self._refused.get(mark)
        if until_s is None:
            return None
        if now >= until_s:
            del self._refused[mark]
            self._look()
            return None
        return Refusal(Why.QUARANTINED, MESSAGE.format(hours=self.rules.for_s / 3600))

    def is_isolated(self, now: float, tenant: str) -> bool:
        """Whether this tenant's calls run one at a time."""
        until_s = self._isolated.get(tenant)
        if until_s is not None and now >= until_s:
            del self._isolated[tenant]
            self._look()
            return False
        return until_s is not None

    def suspected(self, mark: bytes) -> None:
        """One more call with this request is tried apart."""
        self.suspects[mark] = self.suspects.get(mark, 0) + 1
        self.is_watching = True

    def left(self, mark: bytes) -> None:
        """It is not tried any more, cleared or ended."""
        count = self.suspects.get(mark, 0) - 1
        if count > 0:
            self.suspects[mark] = count
        else:
            self.suspects.pop(mark, None)
        self._look()

    def prove(self, now: float, mark: bytes, tenant: str) -> None:
        """A request of `tenant` has killed the worker on which it ran apart."""
        rules = self.rules
        self.proven += 1
        self.refuse(now, mark, rules.for_s)
        deaths = self._deaths.setdefault(tenant, deque())
        deaths.extend([now] * DEATHS_PER_PROOF)
        while deaths and deaths[0] <= now - HOUR_S:
            deaths.popleft()
        if len(deaths) >= rules.tenant_deaths_max:
            deaths.clear()
            _keep(self._isolated, tenant, now + rules.for_s, rules.entries_max)
        while len(self._deaths) > rules.entries_max:
            del self._deaths[next(iter(self._deaths))]

    def refuse(self, now: float, mark: bytes, for_s: float) -> None:
        """Refuse this request from now on: proven here, or by another gateway."""
        _keep(self._refused, mark, now + for_s, self.rules.entries_max)
        self.is_watching = True

    def refused(self, now: float) -> Iterator[tuple[bytes, float]]:
        """What is refused, and for how many seconds more."""
        return ((mark, until_s - now) for mark, until_s in self._refused.items() if until_s > now)

    def _look(self) -> None:
        self.is_watching = bool(self._refused or self._isolated or self.suspects)


def _keep(entries: dict[Key, float], key: Key, until_s: float, most: int) -> None:
    entries.pop(key, None)
    entries[key] = until_s
    while len(entries) > most:
        del entries[next(iter(entries))]
