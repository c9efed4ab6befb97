"""What is worth remembering about one call on its way: where it was, how often, and how it went on."""

from __future__ import annotations

from cordee.domain.replica import Continuation
from cordee.policy.replica import Replica
from cordee.policy.seats import Ticket


class Trip:
    """`breaks` are attempts that broke, `hops` those refused before work, in a row. `number`: what the breaker of the replica knows
    the attempt by. `never`: replicas that were silent. `mark`: the fingerprint by which the call is suspected of having killed a
    worker. `ran`: an attempt broke that may have worked. `asked`: the model the caller named, where another one answers."""

    __slots__ = (
        "asked", "attempts", "began_s", "breaks", "continuation", "continued", "hops", "identical", "mark", "never", "number",
        "ran", "replica", "replicas", "seated_s", "ticket",
    )  # fmt: skip

    def __init__(self) -> None:
        self.attempts = 0
        self.breaks = 0
        self.hops = 0
        self.continued = 0
        self.identical = True
        self.continuation: Continuation | None = None
        self.replica: Replica | None = None
        self.replicas: tuple[str, ...] = ()
        self.ticket: Ticket | None = None  # by which it has its seat
        self.number = 0
        self.began_s = 0.0
        self.seated_s: float | None = None
        self.never: frozenset[str] = frozenset()
        self.mark: bytes | None = None
        self.ran = False
        self.asked = ""

    def goes_to(self, replica: Replica, ticket: Ticket, number: int, now: float, *, continues: bool) -> None:
        """An attempt begins."""
        self.attempts += 1
        self.began_s = now
        if self.seated_s is None:
            self.seated_s = now
        if continues:
            self.continued += 1
            self.identical = self.identical and replica.exact
            before = self.continuation
            self.continuation = replica.continues if not before else min(before, replica.continues)
        elif self.ran and self.continuation is None:
            self.continuation = Continuation.RESTART
        self.takes(replica, ticket, number)

    def goes_on(self, way: Continuation) -> None:
        """The attempt that began last goes on with the answer in this way, whatever its replica could do."""
        self.continuation = way if self.continuation is None else min(self.continuation, way)

    def moves(self, asked: str) -> None:
        """Another model answers than `asked`: what broke at that one says nothing about this one."""
        self.asked = asked
        self.breaks = self.hops = 0
        self.ran = False
        self.replica = self.ticket = None

    def takes(self, replica: Replica, ticket: Ticket, number: int) -> None:
        """It is here now, and has this seat."""
        self.replica = replica
        self.ticket = ticket
        self.number = number
        if not self.replicas or self.replicas[-1] != replica.id:
            self.replicas += (replica.id,)

    def broke(self, *, busy: bool, ran: bool) -> int:
        """The attempt ended without an answer. How many ended so: in a row if busy, else in all."""
        if busy:
            self.hops += 1
            return self.hops
        self.hops = 0
        self.breaks += 1
        self.ran = self.ran or ran
        return self.breaks
