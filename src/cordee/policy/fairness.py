"""Decides whose turn it is among tenants of one class: the one that has had the least service.

Service is counted in tokens, in a *virtual counter* per tenant. The waiting tenant with the smallest counter goes first, and
what its call is expected to use is added at once and corrected when it has ended. A tenant that comes back from idling is
lifted to the smallest counter of those who wait, so that nobody saves up turns. This is the Virtual Token Counter of Sheng et
al. ("Fairness in serving large language models", OSDI 2024): two tenants that both always wait never differ by more than a
constant, whatever one of them floods us with.

A decision costs O(log n). Idle tenants are forgotten once their counter says nothing any more.
"""

from __future__ import annotations

import heapq
from typing import Generic, TypeVar

Item = TypeVar("Item")
FORGET_MIN = 256  # stale entries not worth a sweep


class _Tenant(Generic[Item]):
    __slots__ = ("counter", "heap", "name", "tokens", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.counter = 0.0
        self.heap: list[tuple[float, int, Item]] = []  # by the time it must have started, then by arrival
        self.waiting = 0
        self.tokens = 0


class Fair(Generic[Item]):
    """Those of one class who wait. Items are hashable and wait here once."""

    __slots__ = ("_last", "_order", "_pushed", "_sweep_at", "_tenants", "_tenants_max", "_where", "active", "tokens")

    def __init__(self, tenants_max: int) -> None:
        self._tenants_max = tenants_max
        self._tenants: dict[str, _Tenant[Item]] = {}
        self._order: list[
            tuple[float, int, _Tenant[Item]]
        ] = []  # a heap; entries whose counter has changed stay until met
        self._where: dict[Item, tuple[_Tenant[Item], int]] = {}
        self._last = 0.0  # the counter of whoever was served last
        self._pushed = 0
        self._sweep_at = FORGET_MIN
        self.active = 0  # tenants that wait
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._where)

    def __contains__(self, item: Item) -> bool:
        return item in self._where

    def push(self, item: Item, tenant: str, start_by_s: float, cost: int) -> None:
        owner = self._tenants.get(tenant)
        if owner is None:
            self._forget()
            owner = self._tenants[tenant] = _Tenant(tenant)
        self._pushed += 1
        if not owner.waiting:
            owner.counter = max(owner.counter, self._least())
            self.active += 1
            heapq.heappush(self._order, (owner.counter, self._pushed, owner))
        heapq.heappush(owner.heap, (start_by_s, self._pushed, item))
        owner.waiting += 1
        owner.tokens += cost
        self.tokens += cost
        self._where[item] = (owner, cost)

    def head(self) -> Item | None:
        """Whose turn it is."""
        order = self._order
        while order:
            counter, _, owner = order[0]
            if owner.waiting and counter == owner.counter:
                heap = owner.heap
                while heap[0][2] not in self._where:
                    heapq.heappop(heap)
                return heap[0][2]
            heapq.heappop(order)
        return None

    def take(self, item: Item) -> int:
        """It has its turn. Returns what its tenant is charged, to be corrected when it has ended."""
        owner, cost = self._where[item]
        self._last = owner.counter
        self.discard(item)
        self._charge(owner, cost)
        return cost

    def discard(self, item: Item) -> None:
        """It waits no longer, and is not charged."""
        owner, cost = self._where.pop(item)
        owner.waiting -= 1
        owner.tokens -= cost
        self.tokens -= cost
        if not owner.waiting:
            self.active -= 1
            owner.heap.clear()
        elif len(owner.heap) > FORGET_MIN + 2 * owner.waiting:
            owner.heap = [entry for entry in owner.heap if entry[2] in self._where]
            heapq.heapify(owner.heap)

    def correct(self, tenant: str, more: float) -> None:
        """It used that much more, or less, than it was charged."""
        owner = self._tenants.get(tenant)
        if owner is not None and more:
            self._charge(owner, more)

    def waiting_of(self, tenant: str) -> int:
        owner = self._tenants.get(tenant)
        return owner.waiting if owner is not None else 0

    def tokens_before(self, tenant: str, cost: int) -> int:
        """What is served before a newcomer of this tenant at most: while it waits for its own, every other one that waits gets
        as much as it does."""
        owner = self._tenants.get(tenant)
        own = owner.tokens if owner is not None else 0
        others = self.active - (1 if own else 0)
        return min(self.tokens, own + others * (own + cost))

    def _charge(self, owner: _Tenant[Item], more: float) -> None:
        owner.counter += more
        if owner.waiting:
            self._pushed += 1
            heapq.heappush(self._order, (owner.counter, self._pushed, owner))
            if len(self._order) > FORGET_MIN + 2 * self.active:
                self._order = [
                    (one.counter, number, one) for number, one in enumerate(self._tenants.values()) if one.waiting
                ]
                heapq.heapify(self._order)

    def _least(self) -> float:
        """The smallest counter of those who wait; of who was served last where nobody waits."""
        return self._order[0][2].counter if self.head() is not None else self._last

    def _forget(self) -> None:
        """Drop idle tenants whose counter would be lifted anyway; of too many others, all that are idle."""
        if len(self._tenants) < self._sweep_at:
            return
        least = self._least()
        kept = {name: one for name, one in self._tenants.items() if one.waiting or one.counter > least}
        if len(kept) >= self._tenants_max:
            kept = {name: one for name, one in kept.items() if one.waiting}
        self._tenants = kept
        self._sweep_at = FORGET_MIN + 2 * len(kept)
