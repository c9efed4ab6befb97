"""Decides in which order calls of a pool get their seats: strictly by class, fairly between the tenants of a class, and
within a tenant by the time they must have started.

Strict classes starve the lower ones, so a call that has waited for `ageing_s` moves up one class. There it stands in a line of
its own that gets one turn in `AGED_EVERY`: enough that everybody comes through, too little for a flood of old calls to push
the others of that class aside.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from cordee.domain.call import Priority
from cordee.policy.fairness import FORGET_MIN, Fair
from cordee.policy.route import Size, Want

AGED_EVERY = 8
CLASSES = len(Priority)
NOWHERE = -1


@dataclass(eq=False, slots=True)
class Ticket:
    """A call that wants a seat. Times are on the clock of `now`.

    `accepted`: the call already had a seat (it goes on after a fault): it goes first and is never refused for lack of room.
    `charged`: what its tenant was charged for its turn. `place`: the class it waits in now. `seated_s`: when it got its seat.
    """

    call_id: str
    priority: Priority
    want: Want
    start_by_s: float
    tenant: str = ""
    accepted: bool = False
    charged: int = 0
    place: int = NOWHERE
    seated_s: float = 0.0

    @property
    def size(self) -> Size:
        return self.want.size


class _Class:
    """Those who wait in one class: its own, and those who have moved up into it."""

    __slots__ = ("aged", "arrivals", "fair", "tokens", "turns", "waiting")

    def __init__(self, tenants_max: int) -> None:
        self.fair: Fair[Ticket] = Fair(tenants_max)
        self.aged: deque[Ticket] = deque()
        self.arrivals: deque[tuple[float, Ticket]] = deque()  # by the time since which they are in this class
        self.turns = 0  # since an aged one had its own
        self.tokens = 0
        self.waiting = 0


class Line:
    """Everybody who waits for a pool and has not had a seat yet. `held_from`: classes from this one on get no turns."""

    __slots__ = ("_classes", "_deadlines", "_pushed", "held_from", "waiting")

    def __init__(self, tenants_max: int) -> None:
        self._classes = tuple(_Class(tenants_max) for _ in range(CLASSES))
        self._deadlines: list[tuple[float, int, Ticket]] = []  # a heap; those who have gone stay until met
        self._pushed = 0
        self.held_from = CLASSES
        self.waiting = 0

    def push(self, now: float, ticket: Ticket) -> None:
        at = ticket.place = int(ticket.priority)
        here = self._classes[at]
        here.fair.push(ticket, ticket.tenant, ticket.start_by_s, ticket.size.tokens)
        here.arrivals.append((now, ticket))
        self._count(at, ticket, 1)
        self._pushed += 1
        heapq.heappush(self._deadlines, (ticket.start_by_s, self._pushed, ticket))

    def head(self, now: float, ageing_s: float) -> Ticket | None:
        """Whose turn it is. After `ageing_s` in one class a call moves up to the next."""
        self._age(now, ageing_s)
        for here in self._classes[: self.held_from]:
            if not here.waiting:
                continue
            aged = self._aged_head(here)
            if aged is not None and here.turns >= AGED_EVERY - 1:
                return aged
            own = here.fair.head()
            return own if own is not None else aged
        return None

    def take(self, ticket: Ticket) -> None:
        """It has its turn."""
        here = self._classes[ticket.place]
        if ticket in here.fair:
            ticket.charged = here.fair.take(ticket)
            here.turns += 1
        else:
            here.turns = 0
        self._gone(ticket)

    def discard(self, ticket: Ticket) -> bool:
        """It waits no longer; False: it did not wait here."""
        if ticket.place == NOWHERE:
            return False
        here = self._classes[ticket.place]
        if ticket in here.fair:
            here.fair.discard(ticket)
        self._gone(ticket)
        return True

    def late(self, now: float) -> list[Ticket]:
        """Those whose time to start is over; they wait no longer."""
        found = []
        deadlines = self._deadlines
        while deadlines and (deadlines[0][0] <= now or deadlines[0][2].place == NOWHERE):
            ticket = heapq.heappop(deadlines)[2]
            if self.discard(ticket):
                found.append(ticket)
        return found

    def correct(self, ticket: Ticket, used: float) -> None:
        """A call that had its turn has ended, after `used` tokens of service."""
        self._classes[ticket.priority].fair.correct(ticket.tenant, used - ticket.charged)

    def before(self, ticket: Ticket) -> tuple[int, int]:
        """(tokens, calls) that go before a newcomer at most."""
        at = int(ticket.priority)
        here, size = self._classes[at], ticket.size.tokens
        tokens = sum(one.tokens for one in self._classes[:at])
        calls = sum(one.waiting for one in self._classes[:at])
        fair = here.fair
        own = fair.waiting_of(ticket.tenant)
        others = fair.active - (1 if own else 0)
        return (
            tokens + fair.tokens_before(ticket.tenant, size),
            calls + min(len(fair), own + others * (own + 1)),
        )

    def tokens_to(self, priority: Priority) -> int:
        """What waits in this class and those above it."""
        return sum(one.tokens for one in self._classes[: priority + 1])

    def waiting_of(self, ticket: Ticket) -> int:
        """Of the ticket's tenant, in its class."""
        return self._classes[ticket.priority].fair.waiting_of(ticket.tenant)

    # -- inside

    def _age(self, now: float, ageing_s: float) -> None:
        """Whoever has waited long enough moves up; each at most as often as there are classes."""
        for at in range(1, min(CLASSES, self.held_from)):
            arrivals, above = self._classes[at].arrivals, self._classes[at - 1]
            while arrivals and (arrivals[0][1].place != at or arrivals[0][0] + ageing_s <= now):
                ticket = arrivals.popleft()[1]
                if ticket.place != at:
                    continue
                if ticket in self._classes[at].fair:
                    self._classes[at].fair.discard(ticket)
                self._count(at, ticket, -1)
                ticket.place = at - 1
                self._count(at - 1, ticket, 1)
                above.aged.append(ticket)
                above.arrivals.append((now, ticket))

    def _aged_head(self, here: _Class) -> Ticket | None:
        aged = here.aged
        while aged and (aged[0].place == NOWHERE or self._classes[aged[0].place] is not here):
            aged.popleft()
        return aged[0] if aged else None

    def _gone(self, ticket: Ticket) -> None:
        at = ticket.place
        ticket.place = NOWHERE
        self._count(at, ticket, -1)
        if len(self._deadlines) > FORGET_MIN + 2 * self.waiting:
            self._deadlines = [entry for entry in self._deadlines if entry[2].place != NOWHERE]
            heapq.heapify(self._deadlines)
        here = self._classes[at]
        if len(here.arrivals) > FORGET_MIN + 2 * here.waiting:
            here.arrivals = deque(entry for entry in here.arrivals if entry[1].place == at)
            here.aged = deque(one for one in here.aged if one.place == at)

    def _count(self, at: int, ticket: Ticket, by: int) -> None:
        here = self._classes[at]
        here.waiting += by
        here.tokens += by * ticket.size.tokens
        self.waiting += by
