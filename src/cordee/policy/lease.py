"""Decides how one gateway spends limits that all gateways share, without asking anybody on the path of a call.

The shared store hands out *slices* of a limit, ahead and in the background. A gateway spends from what it holds; the slice
follows its recent spending, and what it does not use goes back. Before the store's answer is there, a gateway may run up a
debt of at most one slice (`slice_share` of the limit), or of one call where that is more, and never beyond what the store last
said was left; the next answer pays it. So at any time all gateways together overshoot a limit by no more than

    gateways × max(slice, largest call)

and one gateway alone, whose slice is the whole limit, by nothing. While the store is away each gateway keeps its share,
limit ÷ gateways, by a meter of its own that has counted all along: nobody is ever without a bound.

The idea is that of quota leasing as in Doorman and in distributed rate limiting by token allotment (Raghavan et al., "Cloud
control with distributed rate limiting", SIGCOMM 2007).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from cordee.domain.record import record
from cordee.policy.budget import Window
from cordee.policy.rate import AtOnce, Bucket, Meter


class Kind(Enum):
    """How the store keeps a limit."""

    BUCKET = "bucket"  # fills at `limit` a minute up to `burst`
    WINDOW = "window"  # `limit` once; the next period has another name
    HELD = "held"  # `limit` at a time, and what a gateway that died held comes back


@record
class Ask:
    """A slice that a gateway wants of the limit `name`, `amount` units; below zero it gives that many back. Of a limit that is
    HELD, `amount` is all it wants to hold from now on. `expires_s`: after how long without any word the store may forget this
    limit (HELD: what this gateway holds)."""

    name: str
    kind: Kind
    amount: int
    limit: int
    burst: int
    expires_s: float


@record
class Grant:
    """What of it is granted, at most the amount; a return is always taken. `remaining` is left for everybody after it;
    `retry_s`: when one unit more will be there, 0 where that is now or unknown."""

    granted: int
    remaining: int
    retry_s: float = 0.0


@dataclass(frozen=True, slots=True)
class LeaseRules:
    """`horizon_s`: a slice lasts about this long at the recent rate. `idle_s`: what was not used for so long goes back."""

    gateways: int = 1
    slice_share: float = 0.05
    horizon_s: float = 1.0
    idle_s: float = 5.0
    held_expires_s: float = 10.0


RATE_WEIGHT = 0.3  # of one interval in the running rate of spending
HALF = 0.5  # of its target: what is left of a slice when the next one is asked for
FORGOTTEN_AFTER_S = 600.0  # a bucket that nobody has touched for so long is full again
GRACE_S = 86_400.0  # the store keeps a period's count that much longer than the longest period lasts
PERIOD_S_MAX = 31 * 86_400.0


class Leased:
    """A meter of one gateway over a limit that is kept in the store. `local` is this gateway's share."""

    __slots__ = (
        "_at_s", "_away", "_balance", "_dry_until_s", "_heard", "_kind", "_local", "_name", "_period", "_rate",
        "_retry_until_s", "_rules", "_spent", "_used_at_s", "limit",
    )  # fmt: skip

    def __init__(self, now: float, name: str, kind: Kind, local: Meter, limit: float, rules: LeaseRules) -> None:
        self.limit = limit
        self._name = name
        self._kind = kind
        self._local = local
        self._rules = rules
        self._balance = 0.0
        self._heard: float | None = None
        self._retry_until_s = self._dry_until_s = 0.0
        self._away = False
        self._spent = self._rate = 0.0
        self._at_s = self._used_at_s = now
        self._period = self._period_name(now)

    # -- port of a meter

    def lacks_s(self, now: float, amount: float) -> float:
        if self._away:
            return self._local.lacks_s(now, amount)
        self._turn(now)
        wanted = min(amount, self._most)
        short = wanted - self._balance
        heard = self._most if self._heard is None else self._heard
        if short <= 0 or (short <= heard and (short <= self._slice_max or self._balance >= 0)):
            return 0.0
        self._used_at_s = now  # it is wanted: the next round asks for it
        return max(RETRY_S_MIN, self._retry_until_s - now)

    def take(self, now: float, amount: float) -> None:
        self._turn(now)
        self._balance -= amount
        self._spent += amount
        self._used_at_s = now
        self._local.take(now, amount)

    def give(self, now: float, amount: float) -> None:
        self._turn(now)
        self._balance += amount
        self._spent = max(0.0, self._spent - amount)
        self._local.give(now, amount)

    def remaining(self, now: float) -> float:
        if self._away:
            return self._local.remaining(now)
        heard = self._most if self._heard is None else self._heard
        return max(0.0, min(self._most, heard + self._balance))

    def reset_s(self, now: float) -> float:
        if isinstance(self._local, Bucket) and not self._away:
            return (self._most - self.remaining(now)) * MINUTE_S / self.limit
        return self._local.reset_s(now)

    def relimit(self, now: float, limit: float) -> None:
        self.limit = limit
        self._local.relimit(now, max(1.0, limit / self._rules.gateways))
        self._heard = None

    def follow(self, rules: LeaseRules) -> None:
        """From now on by these."""
        self._rules = rules

    # -- the background

    def due(self, now: float) -> Ask | None:
        """What to tell the store; None: nothing. Asked in every round, about ten times a second while anything is in use."""
        self._turn(now)
        passed_s = now - self._at_s
        if passed_s > 0:
            self._rate += RATE_WEIGHT * (self._spent / passed_s - self._rate)
            self._spent, self._at_s = 0.0, now
        is_idle = now - self._used_at_s > self._rules.idle_s
        target = 0.0 if is_idle else min(self._slice_max, max(1.0, self._rate * self._rules.horizon_s))
        if isinstance(self._local, AtOnce):
            # Said anew in every round while there is any, so that what a dead gateway held can be told from what is held.
            wanted = math.ceil(self._local.open + target)
            return self._ask(wanted) if wanted or self._balance else None
        if self._away and self._kind is Kind.BUCKET:
            self._balance = 0.0  # this gateway kept its share of the rate; there is nothing to pay for afterwards
        if now < self._dry_until_s:
            return None
        if self._balance < target * HALF or (self._heard is None and not is_idle):
            return self._ask(math.ceil(target - self._balance))
        if self._balance >= 1 and self._balance > 2 * target:
            return self._ask(-math.floor(self._balance - target))
        return None

    def back(self, now: float) -> Ask | None:
        """Everything that is left, at the end of this gateway."""
        self._turn(now)
        if self._kind is Kind.HELD:
            return self._ask(0)
        amount = math.floor(self._balance)
        return self._ask(-amount) if amount > 0 else None

    def granted(self, now: float, ask: Ask, grant: Grant) -> None:
        """The store has answered."""
        self._away = False
        if self._kind is Kind.WINDOW and not ask.name.endswith(self._period_name(now)):
            return  # of a period that is over
        if isinstance(self._local, AtOnce):
            self._balance = grant.granted - self._local.open
        else:
            self._balance += grant.granted
        self._heard = float(grant.remaining)
        self._retry_until_s = now + grant.retry_s
        if ask.amount > 0 and not grant.granted:
            self._dry_until_s = now + min(grant.retry_s, DRY_S_MAX)

    def lost(self, now: float) -> None:
        """The store cannot be reached."""
        self._away = True
        self._heard = None

    def is_idle(self, now: float) -> bool:
        """Nobody has used it for a while, and it holds nothing: it needs no rounds."""
        return now - self._used_at_s > self._rules.idle_s and 0 <= self._balance < 1

    def is_unused(self, now: float) -> bool:
        return abs(self._balance) < 1 and self._local.is_unused(now)

    # -- inside

    @property
    def _most(self) -> float:
        """What can be there at once."""
        if isinstance(self._local, Bucket):
            return max(1.0, self._local.burst * self._rules.gateways)
        return self.limit

    @property
    def _slice_max(self) -> float:
        alone = self._rules.gateways <= 1
        return self._most if alone else max(1.0, math.ceil(self.limit * self._rules.slice_share))

    def _turn(self, now: float) -> None:
        """A new period owes and holds nothing of the old one."""
        if self._kind is Kind.WINDOW and (name := self._period_name(now)) != self._period:
            self._period = name
            self._balance, self._heard = 0.0, None

    def _period_name(self, now: float) -> str:
        return self._local.name(now) if isinstance(self._local, Window) else ""

    def _ask(self, amount: float) -> Ask:
        name = f"{self._name}:{self._period}" if self._period else self._name
        if self._kind is Kind.HELD:
            expires_s = self._rules.held_expires_s
        else:
            expires_s = FORGOTTEN_AFTER_S if self._kind is Kind.BUCKET else PERIOD_S_MAX + GRACE_S
        return Ask(name, self._kind, int(amount), math.ceil(self.limit), math.ceil(self._most), expires_s)


RETRY_S_MIN = 0.2  # two rounds: by then the store has said what is left
DRY_S_MAX = 1.0  # somebody may give back what they do not need
MINUTE_S = 60.0
