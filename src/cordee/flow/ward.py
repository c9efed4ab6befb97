"""Where the calls of a pool go that may have killed a worker: one at a time to a worker that is kept free for them, until the first
token clears them or a second death proves them. The rules are policy.quarantine's; this is the waiting and the seats.

A worker that comes back after a crash is kept for the suspects of that crash, because it is empty. What was cleared there stays and
goes on beside the next one. Where no worker is empty in time, a suspect runs in company: one per worker.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cordee.domain.outcome import Refusal, Why
from cordee.domain.replica import ReplicaKind
from cordee.flow.answer import Answer
from cordee.flow.facts import RESUMED, Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.trip import Trip
from cordee.policy.after import Stop
from cordee.policy.fit import suits
from cordee.policy.quarantine import MESSAGE, Quarantine, fingerprint
from cordee.policy.replica import Replica
from cordee.policy.seats import Queued, Seated, Ticket

if TYPE_CHECKING:
    from cordee.flow.pool import Pool

ONE_CRASH_S = 0.05  # the calls of one connection learn of its end within this time of each other


@dataclass(eq=False, slots=True)
class Suspect:
    """One call under suspicion. `origin` names the crash that brought it here."""

    answer: Answer
    ticket: Ticket
    trip: Trip
    mark: bytes
    origin: str
    since_s: float


class Probe:
    """A suspect at work. Port OnFirst: its first token clears it."""

    __slots__ = ("_ward", "replica", "suspect")

    def __init__(self, ward: Ward, suspect: Suspect, replica: Replica) -> None:
        self._ward = ward
        self.suspect = suspect
        self.replica = replica

    def came(self) -> None:
        self._ward.cleared(self)

    def too_late(self) -> None:
        self.suspect.answer.on_first = None


class Ward:
    """The suspects of one pool. `waiting` is empty nearly always."""

    __slots__ = ("_crashes", "_explained", "_origins", "_pool", "_probes", "_rooms", "_turns", "quarantine", "waiting")

    def __init__(self, pool: Pool, quarantine: Quarantine) -> None:
        self._pool = pool
        self.quarantine = quarantine
        self.waiting: list[
            Suspect
        ] = []  # the newest last: it is tried first, because what came last killed most likely
        self._probes: dict[str, Probe] = {}  # by replica
        self._rooms: dict[str, Replica] = {}  # kept free of others
        self._crashes: dict[str, tuple[float, str]] = {}  # by replica: when its last one was, and its name
        self._explained: dict[str, float] = {}  # crashes that a proven suspect explains
        self._origins: dict[Trip, str] = {}
        self._turns: dict[str, deque[Mailbox[Fact]]] = {}  # of tenants whose calls run one at a time

    # -- what serve says

    def crashed(self, replica: Replica, answer: Answer, trip: Trip, crash: int) -> Stop | None:
        """The worker that had this call has died with `crash` calls of ours. Stop: the call is proven to be the reason."""
        now, rules = self._pool.clock.now(), self.quarantine.rules
        if not rules.enabled or replica.kind is not ReplicaKind.LINK:
            return None
        probe = self._probes.get(replica.id)
        was_accepted = answer.broken_s is None or answer.last_s > trip.began_s
        if probe is not None and probe.suspect.trip is trip:
            del self._probes[replica.id]
            return self._prove(now, probe) if was_accepted else None
        explained_s = self._explained.get(replica.id)
        if trip.mark is not None or probe is not None or (explained_s is not None and now - explained_s < ONE_CRASH_S):
            return None
        # who came from a worker that died, and was not even accepted by this one, met one that was dead already
        if was_accepted and (answer.last_s <= trip.began_s or crash == 1):
            trip.mark = fingerprint(answer.call)
            self.quarantine.suspected(trip.mark)
            self._origins[trip] = self._origin(now, replica)
            self._keep_free(now, replica)
        return None

    def ask(self, ticket: Ticket, answer: Answer, trip: Trip) -> Seated | Queued:
        """A seat apart, now or later: then it is posted to the call's box, as the pool does."""
        assert trip.mark is not None
        now = self._pool.clock.now()
        suspect = Suspect(answer, ticket, trip, trip.mark, self._origins.get(trip, ""), now)
        self.waiting.append(suspect)
        return self._place(now, suspect) or Queued(len(self.waiting) - 1)

    def ended(self, trip: Trip, *, served: bool) -> None:
        """The attempt of a suspect is over, or its wait is. A call that was served is no reason for anything."""
        for id, probe in list(self._probes.items()):
            if probe.suspect.trip is trip:
                del self._probes[id]
                if served:
                    self._acquit(probe.suspect)
        self.waiting = [suspect for suspect in self.waiting if suspect.trip is not trip]
        self.look()

    def forget(self, trip: Trip) -> None:
        """The call is over."""
        if trip.mark is not None:
            self.quarantine.left(trip.mark)
            trip.mark = None
        self._origins.pop(trip, None)
        self.ended(trip, served=False)

    def cleared(self, probe: Probe) -> None:
        """Its first token is here."""
        if self._probes.get(probe.replica.id) is probe:
            del self._probes[probe.replica.id]
        self._acquit(probe.suspect)
        self.look()

    def look(self) -> None:
        """Time has passed, or a worker is free: place those that can be."""
        now = self._pool.clock.now()
        for suspect in reversed(self.waiting.copy()):
            seated = self._place(now, suspect)
            if seated is not None:
                suspect.answer.box.post(seated)
        if not self.waiting:
            self._open_rooms()

    # -- tenants whose calls run one at a time

    def turn(self, tenant: str, box: Mailbox[Fact]) -> bool:
        """True: it may run now. Else RESUMED is posted when it may. Either way `turn_over` follows."""
        line = self._turns.setdefault(tenant, deque())
        line.append(box)
        return line[0] is box

    def turn_over(self, tenant: str, box: Mailbox[Fact]) -> None:
        line = self._turns[tenant]
        was_first = line[0] is box
        line.remove(box)
        if not line:
            del self._turns[tenant]
        elif was_first:
            line[0].post(RESUMED)

    # -- inside

    def _origin(self, now: float, replica: Replica) -> str:
        at_s, name = self._crashes.get(replica.id, (float("-inf"), ""))
        if now - at_s >= ONE_CRASH_S:
            at_s, name = self._crashes[replica.id] = now, f"{replica.id} at {now:.6f}"
        return name

    def _prove(self, now: float, probe: Probe) -> Stop:
        suspect = probe.suspect
        self._explained[probe.replica.id] = now
        self.quarantine.prove(now, suspect.mark, suspect.answer.call.tenant)
        for other in self.waiting.copy():
            if other.origin == suspect.origin and other.mark != suspect.mark:
                self._release(other)
        return Stop(Why.QUARANTINED, MESSAGE.format(hours=self.quarantine.rules.for_s / 3600), fault=True)

    def _acquit(self, cleared: Suspect) -> None:
        self._lift(cleared)
        for other in self.waiting.copy():
            if other.mark == cleared.mark:
                self._release(other)

    def _lift(self, suspect: Suspect) -> None:
        suspect.answer.on_first = None
        if suspect.trip.mark is not None:
            suspect.trip.mark = None
            self.quarantine.left(suspect.mark)
        self._origins.pop(suspect.trip, None)

    def _release(self, suspect: Suspect) -> None:
        """It goes on as any other call does."""
        self.waiting.remove(suspect)
        self._lift(suspect)
        box = suspect.answer.box
        asked = self._pool.ask(suspect.ticket, box, suspect.answer.call)
        if isinstance(asked, Seated | Refusal):
            box.post(asked)

    def _place(self, now: float, suspect: Suspect) -> Seated | None:
        """Its seat, taken, if there is one."""
        if suspect not in self.waiting:  # it went while others were placed
            return None
        able = [
            replica
            for replica in self._pool.seats.replicas
            if replica.kind is ReplicaKind.LINK
            and replica.ready
            and replica.id not in self._probes
            and suits(replica, suspect.ticket.want)
            and replica.breaker.ask(now)
        ]
        # what is in the middle of its answer has a reader who waits
        in_company = suspect.answer.started or now - suspect.since_s >= self.quarantine.rules.apart_s
        found = next((replica for replica in able if replica.id in self._rooms or not replica.used), None)
        if found is not None:
            self._keep_free(now, found)
        elif in_company:
            found = min(able, key=_score, default=None)
        if found is None:
            return None
        self.waiting.remove(suspect)
        found.began(suspect.ticket.size)
        probe = self._probes[found.id] = Probe(self, suspect, found)
        suspect.answer.on_first = probe
        return Seated(found, found.breaker.began(now))

    def _keep_free(self, now: float, replica: Replica) -> None:
        self._rooms[replica.id] = replica
        replica.rest(now + self.quarantine.rules.apart_s)

    def _open_rooms(self) -> None:
        free = [id for id in self._rooms if id not in self._probes]
        for id in free:
            self._rooms.pop(id).rested()
        if free:
            self._pool.settle()


def _score(replica: Replica) -> float:
    return replica.score
