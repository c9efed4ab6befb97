"""A world in which gateways die: several of them over workers that keep their answers, a journal they share, and clients that come
back elsewhere with the place they had reached. Checkers for each promise; a run is a function of its seed."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from random import Random

from cordee.domain.call import Sampling, Work
from cordee.domain.chunk import Finish
from cordee.memory.clock import VirtualClock
from cordee.policy.oracle import token_at
from cordee.sim.keeping_worker import Keep, KeepingWorker
from cordee.sim.lasting import Asked, Connection, No, SharedJournal, SimGateway
from cordee.sim.worker import Speed

NET_S = 0.001  # from a gateway to a client
RETRY_S = 0.05  # until a client comes back, once or twice as long
REFUSALS_MAX = 400  # of a client that is told to come later


@dataclass(frozen=True, slots=True)
class Faults:
    """What strikes, how often, and how long it lasts. `both`: a gateway and a worker at once; `impatient`: the share of clients that
    open a second connection, at another gateway, while the first one is open."""

    gateways: int = 4
    workers: int = 3
    freezes: int = 2
    both: int = 1
    store: int = 1
    repair_s: float = 0.6
    impatient: float = 0.1


@dataclass(frozen=True, slots=True)
class Lasting:
    """The scenario."""

    calls: int = 60
    gateways: int = 3
    workers: int = 3
    slots: int = 16
    tokens: int = 60
    first_token_s: float = 0.02
    token_s: float = 0.02
    arrivals_s: float = 3.0
    choices_max: int = 2
    faults: Faults = Faults()
    keep: Keep = field(default_factory=Keep)
    until_s: float = 60.0


@dataclass(eq=False, slots=True)
class Client:
    """`got` are the tokens of each choice; `wrong` is what was no token of this answer at its place. `place`: its last event."""

    asked: Asked
    got: list[array[int]]
    finishes: list[int]
    place: str = ""
    wrong: int = 0
    resumes: int = 0
    restarts: int = 0
    come_later: int = 0
    refused: list[No] = field(default_factory=list)
    is_second: bool = False

    @property
    def is_whole(self) -> bool:
        return all(count == 1 for count in self.finishes)

    @property
    def is_exact(self) -> bool:
        return self.is_whole and not self.wrong and all(len(one) == self.asked.work.max_tokens for one in self.got)


class Outliving:
    """One run."""

    def __init__(self, seed: int, scenario: Lasting) -> None:
        self.scenario = scenario
        self.rng = Random(seed)  # noqa: S311  # a world that can be repeated
        self.clock = VirtualClock()
        self.journal = SharedJournal(self.clock.now)
        self.ledger: list[tuple[str, int]] = []
        speed = Speed(scenario.first_token_s, scenario.token_s)
        self.workers = [
            KeepingWorker(self.clock, f"w{number}", scenario.slots, speed, scenario.keep)
            for number in range(scenario.workers)
        ]
        self.lives = 0
        self.dead: list[SimGateway] = []
        self.gateways = [self._gateway() for _ in range(scenario.gateways)]
        self.clients: list[Client] = []

    def run(self) -> None:
        scenario, rng, faults = self.scenario, self.rng, self.scenario.faults
        for number in range(scenario.calls):
            self.clock.call_later(rng.random() * scenario.arrivals_s, lambda number=number: self._arrive(number))  # type: ignore[misc]
        for what, times in (
            (self._kill_gateway, faults.gateways), (self._kill_worker, faults.workers), (self._freeze, faults.freezes),
            (self._kill_both, faults.both), (self._lose_store, faults.store),
        ):  # fmt: skip
            for _ in range(times):
                self.clock.call_later(rng.random() * scenario.arrivals_s, what)
        self.clock.run(until_s=scenario.until_s)

    # -- the checkers

    def wrong(self) -> list[Client]:
        """Clients that were given a token, or an end, that is not their answer's at that place."""
        return [client for client in self.clients if client.wrong]

    def neither_whole_nor_refused(self) -> list[Client]:
        return [client for client in self.clients if not client.is_exact and not client.refused]

    def refused(self) -> list[Client]:
        return [client for client in self.clients if client.refused]

    def charged_twice(self) -> list[str]:
        """Calls of which more tokens were accounted for than they have; not those whose accounts died with a gateway that could not
        reach the store."""
        lost = {id for gateway in self.dead for id in gateway.unheard}
        tokens: Counter[str] = Counter()
        for id, count in self.ledger:
            if id not in lost:
                tokens[id] += count
        most = {
            client.place.split(".")[0]: client.asked.work.max_tokens * client.asked.work.n for client in self.clients
        }
        return [f"{id}: {count} of {most[id]}" for id, count in tokens.items() if id in most and count > most[id]]

    def leaks(self) -> dict[str, int]:
        """What should be zero when everything is over."""
        return {
            "seats": sum(replica.mine for one in self.gateways for replica in one.pool.seats.replicas),
            "waiting": sum(one.pool.seats.waiting for one in self.gateways),
            "open": sum(len(one.watch.open) for one in self.gateways),
            "calls": sum(len(one.running) for one in self.gateways),
            "running": sum(worker.running for worker in self.workers),
            "kept": sum(worker.kept for worker in self.workers),
        }

    def served_from(self) -> Counter[str]:
        sources: Counter[str] = Counter()
        for gateway in (*self.gateways, *self.dead):
            sources.update(gateway.served_from)
        return sources

    # -- clients

    def _arrive(self, number: int) -> None:
        n = self.rng.randint(1, self.scenario.choices_max)
        work = Work(
            array("I", [1, number]), 1 + self.rng.randrange(self.scenario.tokens), n, Sampling(seed=number << 8)
        )
        client = Client(Asked(f"tenant-{number % 3}", work), [array("I") for _ in range(n)], [0] * n)
        self.clients.append(client)
        self._ask(client)
        if self.rng.random() < self.scenario.faults.impatient:
            self.clock.call_later(self.rng.random(), lambda: self._ask_twice(client))

    def _ask_twice(self, client: Client) -> None:
        if not client.place or client.is_whole:
            return
        second = Client(client.asked, [array("I", one) for one in client.got], list(client.finishes), client.place)
        second.is_second = True
        self.clients.append(second)
        self._ask(second)

    def _ask(self, client: Client) -> None:
        alive = [one for one in self.gateways if not one.is_dead]
        if not alive:
            self._later(client)
            return
        gateway = self.rng.choice(alive)
        connection = Connection(
            lambda from_, place, choice, token, why: self._sent(client, from_, place, choice, token, why)
        )
        if client.place:
            client.resumes += 1
            no = gateway.resume(client.place, client.asked, connection)
            if no is not None:
                self._told(client, connection, no)
            else:
                self._look_after(client, connection, gateway)
            return
        if any(client.got):  # nothing says where the new answer would go on
            client.restarts += 1
            client.got, client.finishes = [array("I") for _ in client.got], [0] * len(client.finishes)
        gateway.post(client.asked, connection)
        self._look_after(client, connection, gateway)

    def _look_after(self, client: Client, connection: Connection, gateway: SimGateway) -> None:
        """A connection breaks with its gateway, also before it was answered."""
        gateway.hold(connection, lambda: self._broken(client, connection))

    def _sent(self, client: Client, connection: Connection, place: str, choice: int, token: int, why: Finish) -> None:
        self.clock.call_later(NET_S, lambda: self._arrived(client, connection, place, choice, token, why))

    def _arrived(
        self, client: Client, connection: Connection, place: str, choice: int, token: int, why: Finish
    ) -> None:
        if connection.is_cut:
            return  # it was on its way when the connection broke
        if why is Finish.FAILED:
            self._told(client, connection, No[place])
            return
        client.place = place
        work, got = client.asked.work, client.got[choice]
        if why is Finish.NONE:
            client.wrong += bool(client.finishes[choice]) or token != token_at(work.sampling.seed + choice, len(got))
            got.append(token)
        else:
            client.finishes[choice] += 1
            client.wrong += client.finishes[choice] > 1 or len(got) != work.max_tokens

    def _told(self, client: Client, connection: Connection, no: No) -> None:
        connection.is_cut = True
        if no is No.AWAY and client.come_later < REFUSALS_MAX:
            client.come_later += 1
            self._later(client)
        elif not client.is_whole:
            client.refused.append(no)

    def _broken(self, client: Client, connection: Connection) -> None:
        if connection.is_cut:
            return
        connection.is_cut = True
        if not client.is_whole:
            self._later(client)

    def _later(self, client: Client) -> None:
        self.clock.call_later(RETRY_S * (1 + self.rng.random()), lambda: self._ask(client))

    # -- faults

    def _gateway(self) -> SimGateway:
        self.lives += 1
        name = f"{self.lives:06x}"
        rng = Random(self.rng.getrandbits(32))  # noqa: S311
        return SimGateway(self.clock, rng, name, self.workers, self.scenario.slots, self.journal, self.ledger)

    def _kill_gateway(self) -> None:
        at = self.rng.randrange(len(self.gateways))
        gateway = self.gateways[at]
        if gateway.is_dead:
            return
        gateway.die()
        self.dead.append(gateway)

        def again() -> None:
            self.gateways[at] = self._gateway()

        self.clock.call_later(self.scenario.faults.repair_s, again)

    def _kill_worker(self) -> None:
        worker = self.rng.choice(self.workers)
        worker.die()
        self.clock.call_later(self.scenario.faults.repair_s, worker.revive)

    def _freeze(self) -> None:
        worker = self.rng.choice(self.workers)
        worker.freeze()
        self.clock.call_later(self.scenario.faults.repair_s, worker.thaw)

    def _kill_both(self) -> None:
        self._kill_worker()
        self._kill_gateway()

    def _lose_store(self) -> None:
        self.journal.is_away = True

        def back() -> None:
            self.journal.is_away = False

        self.clock.call_later(self.scenario.faults.repair_s, back)
