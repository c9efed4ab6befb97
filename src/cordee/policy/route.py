"""Decides which replica of a pool is asked: filter → score → pick.

This file is the filter: it knows who may be asked at all, and keeps it ready, so that a decision looks at nobody in vain. Replicas
that are away, that rest, or whose breaker is open do not stand among the candidates; of those that look broken at most a share is
left out, because it is more likely that we are wrong than that most of them are. Scoring and picking are the strategies' business.

Facts only mark a replica as changed; what follows from that, and from time passing, is settled when the next decision is due.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count, islice
from typing import TYPE_CHECKING, assert_never

from cordee.domain.replica import ReplicaKind
from cordee.policy.affinity import PrefixAffinity
from cordee.policy.candidates import LOOKS_MAX, SCAN_MAX, Candidates
from cordee.policy.fit import fits, suits
from cordee.policy.geo import Geo
from cordee.policy.health import Health
from cordee.policy.least import LeastConnections, LeastLoad
from cordee.policy.outlier import OutlierRules
from cordee.policy.replica import Replica, Size, Want
from cordee.policy.strategy import EVERYONE, Picker, RouteRules, Strategy
from cordee.policy.turns import RoundRobin, Weighted

if TYPE_CHECKING:
    from random import Random

__all__ = ["SCAN_MAX", "OutlierRules", "Replica", "RouteRules", "Router", "Size", "Strategy", "Want"]

AT_ONCE = float("-inf")


class Router:
    """The replicas of one pool. `replicas` is its roll: who joins is appended to it, who leaves goes through `leave`.
    `is_by_prefix`: how a prompt begins decides before load does, not only among equals."""

    __slots__ = (
        "_by_id", "_due_s", "_excluded", "_groups", "_health", "_order", "_picker", "_prefix_tokens", "_present", "_probes",
        "_read", "_rules", "_shut", "_told", "_turned", "_wakings", "is_by_prefix", "replicas",
    )  # fmt: skip

    def __init__(self, rules: RouteRules | None = None, outliers: OutlierRules | None = None) -> None:
        self._rules = rules or RouteRules()
        self.replicas: list[Replica] = []
        self._picker = picker(self._rules)
        self._prefix_tokens = _prefix_tokens(self._rules)
        self.is_by_prefix = self._rules.strategy is Strategy.PREFIX_AFFINITY
        self._groups: dict[str, Candidates] = {EVERYONE: Candidates()}
        self._health = Health(self._rules, outliers or OutlierRules())
        self._read = 0  # how long the roll was when it was read last
        self._by_id: dict[str, Replica] = {}
        self._told: dict[Replica, Callable[[], None]] = {}  # what its breaker calls
        self._present: dict[Replica, None] = {}  # those that are ready
        self._shut: dict[Replica, None] = {}  # those of them that look broken, the longest first
        self._excluded: set[Replica] = set()  # those of them that are left out
        self._probes: dict[Replica, None] = {}  # those of them that may be tried again
        self._turned: dict[Replica, None] = {}  # those about which something changed
        self._wakings: list[tuple[float, int, Replica]] = []  # when to look at one again
        self._order = count()
        self._due_s = AT_ONCE

    @property
    def prefix_tokens(self) -> int:
        """How much of the beginning of a prompt the strategy wants to know; 0: nothing, as where there is no choice."""
        return self._prefix_tokens if len(self.replicas) > 1 else 0

    def ask(self, now: float, rng: Random, want: Want, *, alone: bool = True) -> Replica | None:
        """The replica to ask, or None when none can take it. `alone`: no other gateway shares these replicas."""
        if now >= self._due_s or len(self.replicas) != self._read:
            self._settle(now)
        if self._probes or want.prefer:
            found = self._first(now, want)
            if found is not None:
                return found
        found = self._picker.pick(rng, self._groups, want, alone=alone)
        if found is None and want.avoid:  # the one that just failed is better than none, if it is ready again
            return self.ask(now, rng, replace(want, avoid=""), alone=alone)
        if found is None and 2 * len(self._shut) > len(
            self._present
        ):  # more likely we are wrong than all of them are broken
            able = [replica for replica in islice(self._shut, LOOKS_MAX) if fits(replica, want)]
            return min(able, key=lambda replica: replica.score, default=None)
        return found

    def leave(self, replica: Replica) -> None:
        """It is no longer of this pool."""
        self.replicas.remove(replica)
        self._read_roll()

    def follow(self, rules: RouteRules, outliers: OutlierRules) -> None:
        """By these from now on; another strategy starts without knowing what the one before knew."""
        self._rules = rules
        self._health.follow(rules, outliers)
        self._picker = picker(rules)
        self._prefix_tokens = _prefix_tokens(rules)
        self.is_by_prefix = rules.strategy is Strategy.PREFIX_AFFINITY
        self._groups = {EVERYONE: Candidates()}
        for replica in self._by_id.values():
            self._crowd(replica)
            replica.group, replica.is_full = None, False
            self._picker.joined(replica)
            self._mark(replica)

    def is_shut(self, replica: Replica) -> bool:
        """It is left out, by its breaker or as an outlier."""
        return replica in self._excluded

    def weight(self, replica: Replica) -> float:
        """Its share of its full weight: 0 while it is left out."""
        return 0.0 if replica in self._excluded else replica.health

    def _first(self, now: float, want: Want) -> Replica | None:
        """Who goes before every score: the one that has the answer already, then one that wants a probe."""
        preferred = self._by_id.get(want.prefer)
        if (
            preferred is not None
            and preferred.ready
            and preferred.id != want.avoid
            and suits(preferred, want)
            and preferred.breaker.ask(now)
        ):
            return preferred
        if want.anyway:  # what has begun is no probe
            return None
        for replica in list(islice(self._probes, SCAN_MAX)):
            if not replica.breaker.ask(now):
                del self._probes[replica]  # its probe is out; the end of that brings it back
            elif fits(replica, want):
                del self._probes[replica]
                return replica
        return None

    # -- what changed

    def _mark(self, replica: Replica) -> None:
        self._turned[replica] = None
        self._due_s = AT_ONCE

    def _settle(self, now: float) -> None:
        if len(self.replicas) != self._read:
            self._read_roll()
        while self._wakings and self._wakings[0][0] <= now:
            self._turned[heapq.heappop(self._wakings)[2]] = None
        for replica in self._health.over(now):
            self._turned[replica] = None
        turned, self._turned = self._turned, {}
        for replica in turned:
            if self._by_id.get(replica.id) is replica:
                self._place(now, replica)
        if turned:
            self._exclude(now)
        room = int(self._rules.shut_share_max * len(self._present)) - len(self._shut)
        for replica in self._health.step(now, self.replicas, len(self._present) - len(self._excluded), room):
            self._place(now, replica)
            self._exclude(now)
        self._due_s = min(self._health.due_s, self._wakings[0][0] if self._wakings else float("inf"))

    def _read_roll(self) -> None:
        on_roll = {replica.id: replica for replica in self.replicas}
        for id, replica in list(self._by_id.items()):
            if on_roll.get(id) is not replica:
                self._strike(replica)
        for id, replica in on_roll.items():
            if id not in self._by_id:
                self._by_id[id] = replica
                replica.watcher = self._mark
                self._crowd(replica)
                told = self._told[replica] = partial(self._mark, replica)
                replica.breaker.watchers.append(told)
                self._picker.joined(replica)
                self._mark(replica)
        self._read = len(self.replicas)

    def _crowd(self, replica: Replica) -> None:
        """Only of one that reports is it known what the others have there."""
        replica.crowd = self._rules.gateways if replica.kind is ReplicaKind.LINK else 1

    def _strike(self, replica: Replica) -> None:
        del self._by_id[replica.id]
        replica.watcher = None
        replica.breaker.watchers.remove(self._told.pop(replica))
        self._picker.left(replica)
        self._health.gone(replica)
        for known in (self._present, self._shut, self._probes, self._turned):
            known.pop(replica, None)
        self._excluded.discard(replica)
        if replica.group is not None:
            replica.group.remove(replica)
        self._due_s = AT_ONCE

    def _place(self, now: float, replica: Replica) -> None:
        """Where it stands, from what is known of it now."""
        breaker, was_shut = replica.breaker, replica in self._shut
        if not replica.ready:
            if replica in self._present:
                del self._present[replica]
                self._health.went(now, replica)
            self._shut.pop(replica, None)
            self._probes.pop(replica, None)
            self._excluded.discard(replica)
        else:
            if replica not in self._present:
                self._present[replica] = None
                self._health.came(now, replica, alone=len(self._present) == 1)
            if replica.is_ejected or not breaker.is_closed:
                self._shut[replica] = None
            elif was_shut:
                del self._shut[replica]
                self._excluded.discard(replica)
                self._health.recovered(now, replica)
            self._time(now, replica)
        self._stand(now, replica)

    def _time(self, now: float, replica: Replica) -> None:
        """When to look at it again."""
        self._probes.pop(replica, None)
        breaker = replica.breaker
        if not breaker.is_closed and not breaker.probing:
            if breaker.ask(now):
                self._probes[replica] = None
            else:
                self._wake(breaker.callers_from_s, replica)
        if replica.rests_until_s > now:
            self._wake(replica.rests_until_s, replica)

    def _wake(self, at_s: float, replica: Replica) -> None:
        heapq.heappush(self._wakings, (at_s, next(self._order), replica))

    def _exclude(self, now: float) -> None:
        """Of those that look broken, the first so many are left out; the others stay, as a last resort."""
        allowed = int(self._rules.shut_share_max * len(self._present))
        excluded = set(islice(self._shut, allowed))
        changed = [replica for replica in self._shut if (replica in excluded) != (replica in self._excluded)]
        self._excluded = excluded
        for replica in changed:
            self._stand(now, replica)
        for replica in self._shut:
            if replica.is_last is not (replica not in excluded):
                replica.is_last = replica not in excluded
                replica.weigh()

    def _stand(self, now: float, replica: Replica) -> None:
        may_be_asked = replica.ready and replica not in self._excluded and replica.rests_until_s <= now
        if may_be_asked and replica.group is None:
            name = self._picker.group_of(replica)
            if name not in self._groups:
                self._groups[name] = Candidates()
            self._groups[name].add(replica)
        elif not may_be_asked and replica.group is not None:
            replica.group.remove(replica)


def _prefix_tokens(rules: RouteRules) -> int:
    return 0 if rules.strategy in (Strategy.ROUND_ROBIN, Strategy.WEIGHTED) else rules.affinity_tokens


def picker(rules: RouteRules) -> Picker:
    """A strategy at work."""
    match rules.strategy:
        case Strategy.LEAST_LOAD:
            return LeastLoad()
        case Strategy.ROUND_ROBIN:
            return RoundRobin()
        case Strategy.LEAST_CONNECTIONS:
            return LeastConnections()
        case Strategy.WEIGHTED:
            return Weighted()
        case Strategy.GEO:
            return Geo(rules)
        case Strategy.PREFIX_AFFINITY:
            return PrefixAffinity(rules)
        case _:
            assert_never(rules.strategy)
