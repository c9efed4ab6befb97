"""Decides which texts of many jobs a lane of an embedding engine computes next: strictly by class, fairly between the tenants of a
class, and within a tenant in order of arrival.

A lane asks for a *portion* whenever it has nothing to do. The more waits, the more it gets, because every portion costs a word from
thread to thread; towards the end portions become small, so that the lanes come to their ends together: guided self-scheduling
(Polychronopoulos and Kuck 1987). A portion is of one class, whose texts need not wait for those of a lower one to be computed. There
is nothing to preempt: a job of a higher class waits for one portion at most. What has waited for `ageing_s` moves up one class, so
that nothing waits for ever.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from cordee.domain.call import Priority
from cordee.policy.fairness import Fair

CLASSES = len(Priority)
PORTIONS_LEFT = 2  # for each lane that shares what waits: portions halve, however unequal the lanes turn out to be


@dataclass(frozen=True, slots=True)
class TextRules:
    """A portion is up to `texts_max` texts of up to `tokens_max` tokens together, and leaves something to the other of `lanes`. Up to
    `tenants_max` idle tenants are remembered."""

    texts_max: int
    tokens_max: int
    lanes: int = 1
    ageing_s: float = 20.0
    tenants_max: int = 1024


class Texts:
    """All texts that wait. They are known by numbers that the caller gives out, upwards."""

    __slots__ = ("_arrivals", "_deadlines", "_lines", "_rules", "_waiting")

    def __init__(self, rules: TextRules) -> None:
        self._rules = rules
        self._lines = tuple(Fair[int](rules.tenants_max) for _ in range(CLASSES))
        self._arrivals = tuple(deque[tuple[float, int]]() for _ in range(CLASSES))
        self._deadlines: list[tuple[float, int]] = []  # a heap; those that have gone stay until met
        self._waiting: dict[int, tuple[int, str, int]] = {}  # class, tenant, tokens

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, now: float, text: int, tokens: int, priority: int, tenant: str, deadline_s: float) -> None:
        heapq.heappush(self._deadlines, (deadline_s, text))
        self._push(now, text, min(max(priority, 0), CLASSES - 1), tenant, tokens)

    def remove(self, text: int) -> None:
        """Nobody wants it any more. Idempotent."""
        entry = self._waiting.pop(text, None)
        if entry is not None:
            self._lines[entry[0]].discard(text)

    def expired(self, now: float) -> Sequence[int]:
        """Those whose deadline has passed; they wait no longer."""
        gone: list[int] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, text = heapq.heappop(self._deadlines)
            if text in self._waiting:
                self.remove(text)
                gone.append(text)
        return gone

    def take(self, now: float) -> Sequence[int]:
        """The texts of a lane's next portion; they wait no longer. One at least, if any waits: it is the caller's word that each
        fits."""
        self._age(now)
        line = next((line for line in self._lines if len(line)), None)
        if line is None:
            return []
        room = self._room(line.tokens)
        taken: list[int] = []
        while len(taken) < self._rules.texts_max and (text := line.head()) is not None:
            tokens = self._waiting[text][2]
            if taken and tokens > room:
                break
            line.take(text)
            del self._waiting[text]
            room -= tokens
            taken.append(text)
        return taken

    def _room(self, tokens: int) -> int:
        """How many of the `tokens` that wait in a class are one portion; a single lane has nobody to share with."""
        most, lanes = self._rules.tokens_max, self._rules.lanes
        return most if lanes == 1 else min(most, tokens // (PORTIONS_LEFT * lanes))

    def _push(self, now: float, text: int, line: int, tenant: str, tokens: int) -> None:
        self._waiting[text] = (line, tenant, tokens)
        self._lines[line].push(text, tenant, float(text), tokens)
        if line:  # from the highest class there is nowhere to go
            self._arrivals[line].append((now, text))

    def _age(self, now: float) -> None:
        for line in range(1, CLASSES):
            arrivals = self._arrivals[line]
            while arrivals and (now - arrivals[0][0] >= self._rules.ageing_s or arrivals[0][1] not in self._waiting):
                _, text = arrivals.popleft()
                entry = self._waiting.get(text)
                if entry is not None and entry[0] == line:
                    self._lines[line].discard(text)
                    self._push(now, text, line - 1, entry[1], entry[2])
