"""A world of servers reached by URL that misbehave in the ways that breakers and routing are for: they refuse, they fail with a
probability, they are slow, they blame the caller. Calls come at a steady rate and go the production path; a run is a function of
its seed."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from cordee.domain.call import Call, Deadlines
from cordee.domain.outcome import End, Outcome
from cordee.domain.replica import Capacity, ReplicaKind
from cordee.flow.answer import Answer, Counts
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.flow.serve import outcome, serve
from cordee.flow.trip import Trip
from cordee.flow.watch import Watch
from cordee.memory.clock import VirtualClock
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.retry import RetryBudget, RetryRules
from cordee.policy.route import Replica
from cordee.policy.seats import SeatRules, Seats
from cordee.ports import Receiver
from cordee.sim.world import SimSink

REFUSED_S = 0.001  # until a connection is refused on one host
FAILED_S = 0.005  # until a 500 comes


@dataclass(slots=True)
class Behaviour:
    """What one server does now; may be changed while the world runs. `bad_tenant` gets a 400 for everything it sends."""

    answer_s: float = 0.05
    refuses: bool = False
    failing: float = 0.0
    bad_tenant: str = ""


class _Running:
    """Nothing is left to stop: what comes for a call that has gone is not heard."""

    def cancel(self) -> None: ...

    def detach(self) -> None: ...


class SimServer:
    """Port Upstream. `asked` counts the attempts that reached it, refused ones too."""

    def __init__(self, world: ServerWorld, behaviour: Behaviour) -> None:
        self._world = world
        self.behaviour = behaviour
        self.asked = 0

    def start(
        self, call: Call, attempt: int, outputs: Sequence[array[int]], done: frozenset[int], remaining_s: float,
        receiver: Receiver, sent: Sequence[bytes] = (),
    ) -> _Running:  # fmt: skip
        self.asked += 1
        now, later = self.behaviour, self._world.clock.call_later
        if now.refuses:
            later(REFUSED_S, lambda: receiver.broken("connection refused", ran=False))
        elif self._world.rng.random() < now.failing:
            later(FAILED_S, lambda: receiver.broken("it answered with status 500", ran=True))
        else:
            status = 400 if call.tenant == now.bad_tenant else 200
            later(now.answer_s, lambda: self._answer(receiver, status))
        return _Running()

    def _answer(self, receiver: Receiver, status: int) -> None:
        receiver.head(status, ())
        receiver.body(b"{}")
        receiver.complete()


class ServerWorld:
    """`servers` equal servers behind one gateway. `tenants[i]` makes every i-th call."""

    def __init__(self, seed: int, servers: int, tenants: Sequence[str] = ("t1", "t2", "t3")) -> None:
        self.rng = Random(seed)  # noqa: S311  # a world that can be repeated
        self.clock = VirtualClock()
        self.pool = Pool(
            Seats("m", SeatRules()), RetryBudget(RetryRules(), 0.0), AttemptRules(), self.clock, self.rng
        )  # fmt: skip
        self.watch = Watch(self.clock, [self.pool])
        self.servers: list[SimServer] = []
        self.outcomes: list[tuple[float, Outcome]] = []  # with the time of arrival
        self._tenants = tenants
        for number in range(servers):
            replica = Replica(f"s{number}", ReplicaKind.HTTP, Capacity(64, 64 * 256), "", Breaker(BreakerRules()))
            replica.ready = True
            server = SimServer(self, Behaviour())
            self.servers.append(server)
            self.pool.join(replica, server)

    @property
    def replicas(self) -> list[Replica]:
        return self.pool.seats.replicas

    def run(self, calls: int, rate: float) -> None:
        """So many calls, so many a second, from now on; until the last one is over."""
        for number in range(calls):
            self.clock.call_later(number / rate, lambda number=number: self._arrive(number))  # type: ignore[misc]
        self.clock.run(until_s=self.clock.now() + calls / rate + 1)

    def attempts(self) -> int:
        return sum(server.asked for server in self.servers)

    def failed(self, tenant: str | None = None) -> int:
        wanted = [one for _, one in self.outcomes if tenant is None or one.tenant == tenant]
        return sum(one.end is not End.SERVED for one in wanted)

    def shares(self, since_s: float = 0.0) -> Counter[str]:
        """Who answered how many of the calls that came since then."""
        return Counter(one.replica for arrived_s, one in self.outcomes if arrived_s >= since_s)

    def _arrive(self, number: int) -> None:
        tenant = self._tenants[number % len(self._tenants)]
        now = self.clock.now()
        call = Call(
            f"call-{len(self.outcomes)}-{number}", "m", tenant, "/v1/chat/completions", False, now,
            deadlines=Deadlines(10, 10, 10), body=b"x" * 400,
        )  # fmt: skip
        box = Mailbox[Fact]()
        answer = Answer(call, SimSink(1), box, self.clock, Counts())
        self.watch.add(answer)
        box.run(self._walk(call, answer))

    async def _walk(self, call: Call, answer: Answer) -> None:
        trip = Trip()
        result = await serve(call, answer, self.pool, trip)
        self.watch.remove(answer)
        self.outcomes.append((call.arrived_s, outcome(call, answer, trip, result, self.clock.now())))
