"""One gateway of a world in which gateways die: its own pool and seats, the shared journal, and the client's side of a kept answer.

What production decides here is production's: the way through the pool (`flow.serve`), the way to the client's position
(`flow.rejoin`), what counts as accounted for (`policy.accounts`), the journal.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Any, TypeVar

from cordee.domain.call import Call, Deadlines, Work
from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.kept import Found, KeptCall, KeptTokens, packed, unpacked
from cordee.domain.outcome import End
from cordee.domain.replica import Capacity, ReplicaKind
from cordee.flow.answer import Answer, Counts
from cordee.flow.facts import GONE, Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.pool import Pool
from cordee.flow.rejoin import Rejoin, Rejoined
from cordee.flow.serve import Served, outcome, serve
from cordee.flow.trip import Trip
from cordee.flow.watch import Watch
from cordee.memory.clock import VirtualClock
from cordee.memory.journal import MemoryJournal
from cordee.policy.accounts import new_tokens, settled_before
from cordee.policy.after import AttemptRules
from cordee.policy.breaker import Breaker, BreakerRules
from cordee.policy.retry import RetryBudget, RetryRules
from cordee.policy.route import Replica
from cordee.policy.seats import SeatRules, Seats
from cordee.ports import AwayError
from cordee.sim.keeping_worker import KeepingWorker, SimLink
from cordee.wire.position import ENDED, OPEN, START, Position, read, rolled, written

BEAT_S, LASTS_S = 1.0, 3.5  # as production's gateways say that they live
LOOK_S = 0.25
KEEP_S = 60.0
PATIENT = Deadlines(total_s=120.0, first_token_s=60.0, between_tokens_s=60.0)
T = TypeVar("T")


class No(Enum):
    """Why a gateway does not give an answer."""

    UNKNOWN = auto()
    ANOTHER = auto()  # made again, it came out different
    AWAY = auto()
    FAILED = auto()


class Connection:
    """What a client hears of one request; silence after `is_cut`. Set up by the client."""

    def __init__(self, hears: Callable[[Connection, str, int, int, Finish], None]) -> None:
        self.is_cut = False
        self.gone: Callable[[], None] = lambda: None  # what its gateway does when the client leaves
        self._hears = hears

    def event(self, place: str, choice: int, token: int, why: Finish) -> None:
        if not self.is_cut:
            self._hears(self, place, choice, token, why)


class SharedJournal(MemoryJournal):
    """The store that all gateways share, which may be away."""

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(now, 1 << 20, 1 << 30)
        self.is_away = False

    def ask(self, asked: Coroutine[Any, Any, T]) -> T:
        """What it says, at once. Raises AwayError."""
        if self.is_away:
            asked.close()
            raise AwayError("the store is away")
        try:
            asked.send(None)
        except StopIteration as said:
            return said.value  # type: ignore[no-any-return]
        raise AssertionError("a journal in memory waits for nothing")

    def tell(self, told: Coroutine[Any, Any, None]) -> None:
        """What it misses while it is away is missed."""
        with suppress(AwayError):
            self.ask(told)


class SimKeptSink:
    """The client's side: every token with its place, and nothing before the client's position was found to be this answer's."""

    def __init__(self, connection: Connection, call: KeptCall | None, n: int, start: Position | None) -> None:
        self.ids = [array("I") for _ in range(n)]
        self.whys = [Finish.NONE] * n
        self.came: Callable[[], None] = lambda: None
        self.denied: Callable[[], None] = lambda: None
        self.is_denied = False
        self._connection = connection
        self._call = call
        self._hashes = [START] * n
        self._sent = [0] * n
        self._sent_hashes = [START] * n
        self._states = [OPEN] * n
        self._waiting: list[tuple[int, int, Finish]] = []
        self._way = Rejoin(start) if start is not None else None
        if start is not None:
            self._states[: len(start.states)] = start.states

    def token(self, choice: int, token: int, logprobs: TokenLogprobs | None) -> bool:
        if self.is_denied:
            return False
        self._hashes[choice] = rolled(self._hashes[choice], token)
        self.ids[choice].append(token)
        self.came()
        way, count = self._way, len(self.ids[choice])
        if way is None:
            self._send(choice, token, Finish.NONE)
            return False
        if way.is_old(choice, count):
            way.passed(choice, self._hashes[choice])
        else:
            self._waiting.append((choice, token, Finish.NONE))
        self._look(way)
        return False

    def finish(self, choice: int, why: Finish) -> None:
        if self.is_denied:
            return
        self.whys[choice] = why
        if self._way is None:
            self._send(choice, 0, why)
            return
        self._waiting.append((choice, 0, why))
        self._look(self._way)

    def text(self, choice: int, text: str, why: Finish) -> None: ...

    def usage(self, tokens_in: int, tokens_out: int) -> None: ...

    def cached(self, tokens: int) -> None: ...

    def result(self, choice: int, data: bytes) -> None: ...

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None: ...

    def body(self, data: bytes) -> bool:
        return True

    def complete(self) -> None: ...

    def _look(self, way: Rejoin) -> None:
        verdict = way.look([len(ids) for ids in self.ids], [why is not Finish.NONE for why in self.whys])
        if verdict is Rejoined.UNDERWAY:
            return
        self._way = None
        if verdict is Rejoined.ANOTHER:
            self.is_denied = True
            self.denied()
            return
        for choice, count in enumerate(way.start.counts):
            self._sent[choice], self._sent_hashes[choice] = count, way.hashes[choice]
        waiting, self._waiting = self._waiting, []
        for choice, token, why in waiting:
            self._send(choice, token, why)

    def _send(self, choice: int, token: int, why: Finish) -> None:
        if why is Finish.NONE:
            self._sent_hashes[choice] = rolled(self._sent_hashes[choice], token)
            self._sent[choice] += 1
        elif self._states[choice] == ENDED:
            return  # the client has it
        else:
            self._states[choice] = ENDED
        place = "" if self._call is None else f"{self._call.id}.{written(self._sent, self._states, self._sent_hashes)}"
        self._connection.event(place, choice, token, why)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants."""

    tenant: str
    work: Work


class SimGateway:
    """One life of a gateway. `ledger`: (call, tokens) of everything it has accounted for."""

    def __init__(
        self, clock: VirtualClock, rng: Random, name: str, workers: Sequence[KeepingWorker], slots: int, journal: SharedJournal,
        ledger: list[tuple[str, int]],
    ) -> None:  # fmt: skip
        self.name = name
        self.is_dead = False
        self.running: dict[str, SimKeptSink] = {}
        self.served_from: dict[str, int] = {"ring": 0, "journal": 0, "regenerated": 0}
        self._clock = clock
        self._journal = journal
        self._ledger = ledger
        self._charged: dict[str, int] = {}  # as this gateway's own journal knows it, also while the store is away
        self.unheard: set[str] = set()  # calls whose accounts the store has missed
        self._counts = Counts()
        seats = Seats("oracle", SeatRules(wait_s_max=60.0))
        self.pool = Pool(seats, RetryBudget(RetryRules(), clock.now()), AttemptRules(continuations_max=64), clock, rng)
        self.watch = Watch(clock, [self.pool])
        self._links: list[SimLink] = []
        self._held: dict[Connection, Callable[[], None]] = {}
        self._numbers = 0
        self._is_known = False  # the store has heard that it lives
        for worker in workers:
            capacity = Capacity(slots, slots * 4096)
            replica = Replica(worker.name, ReplicaKind.LINK, capacity, "oracle", Breaker(BreakerRules()), exact=True)
            replica.ready = not worker.is_dead and not worker.is_frozen
            link = SimLink(worker, self.pool, replica)
            worker.links.append(link)
            self._links.append(link)
            self.pool.join(replica, link)
        self._beat()

    def die(self) -> None:
        """SIGKILL."""
        self.is_dead = True
        for link in self._links:
            link.cut()
            link.worker.links.remove(link)
        self.watch.open.clear()  # nobody looks after their deadlines any more
        held, self._held = self._held, {}
        for broken in held.values():
            broken()

    def hold(self, connection: Connection, broken: Callable[[], None]) -> None:
        """`broken` is called when this gateway dies while it has the connection."""
        self._held[connection] = broken

    # -- what clients ask

    def post(self, asked: Asked, connection: Connection) -> None:
        """A request that is to be kept."""
        self._numbers += 1
        id = f"{self.name}{self._numbers:010x}"
        kept: KeptCall | None = KeptCall(
            id, asked.tenant, "k", "/v1/chat/completions", "", b"{}", True, asked.work.sampling.seed, 0, "oracle", "oracle",
            self.name,
        )  # fmt: skip
        assert kept is not None
        try:
            if not self._is_known:
                self._say_alive()
            self._journal.ask(self._journal.begin(kept, KEEP_S))
        except AwayError:
            kept = None
        self._serve(id, asked, kept, connection, None, "", charged=0, resumes=False)

    def resume(self, place: str, asked: Asked, connection: Connection) -> No | None:
        """The rest of an answer. What is returned is said at once; None: it comes, or is looked for."""
        stream, start = read(place)
        try:
            found = self._journal.ask(self._journal.find(stream))
        except AwayError:
            return No.AWAY
        if found is None or found.call.tenant != asked.tenant:
            return No.UNKNOWN
        if found.answer is None and not found.replica and self._runs(found):
            self._clock.call_later(LOOK_S, lambda: self._again(place, asked, connection))
            return None
        self._go_on(found, start, asked, connection)
        return None

    # -- inside

    def _again(self, place: str, asked: Asked, connection: Connection) -> None:
        if self.is_dead or connection.is_cut:
            return
        no = self.resume(place, asked, connection)
        if no is not None:
            self._refuse(connection, no)

    def _runs(self, found: Found) -> bool:
        return found.call.id in self.running if found.call.owner == self.name else found.is_owned

    def _go_on(self, found: Found, start: Position, asked: Asked, connection: Connection) -> None:
        delivered = sum(start.counts)
        call = found.call
        if isinstance(found.answer, KeptTokens):
            self.served_from["journal"] += 1
            sink = SimKeptSink(connection, call, asked.work.n, start)
            sink.denied = lambda: self._refuse(connection, No.UNKNOWN)
            for choice, (output, why) in enumerate(zip(found.answer.outputs, found.answer.finishes, strict=True)):
                for token in unpacked(output):
                    sink.token(choice, token, None)
                sink.finish(choice, Finish(why))
            return
        is_accounted = call.id in self.running if found.accountant == self.name else found.is_accounted
        if not is_accounted:
            with suppress(AwayError):  # then nobody else can be asked
                is_accounted = not self._journal.ask(self._journal.adopt(call.id, found.accountant, self.name))
        known = max(found.charged or 0, self._charged.get(call.id, 0))
        charged = settled_before(known, delivered, is_accounted=is_accounted)
        self._serve(call.id, asked, call, connection, start, found.replica, charged=charged, resumes=True)

    def _serve(
        self, id: str, asked: Asked, kept: KeptCall | None, connection: Connection, start: Position | None, attach: str,
        *, charged: int | None, resumes: bool,
    ) -> None:  # fmt: skip
        call = Call(
            id, "oracle", asked.tenant, "/v1/chat/completions", True, self._clock.now(), deadlines=PATIENT, work=asked.work,
            keep=kept is not None, attach=attach,
        )  # fmt: skip
        sink, box = SimKeptSink(connection, kept, asked.work.n, start), Mailbox[Fact]()
        answer = Answer(call, sink, box, self._clock, self._counts)
        trip = Trip()
        known_at = [attach]

        def came() -> None:
            replica = trip.replica
            if kept is not None and replica is not None and replica.id != known_at[0]:
                known_at[0] = replica.id
                self._journal.tell(self._journal.note(id, replica=replica.id))

        def gone() -> None:
            connection.is_cut = True
            box.post(GONE)

        def denied() -> None:
            self._refuse(connection, No.UNKNOWN if is_attached() else No.ANOTHER)
            box.post(GONE)

        def is_attached() -> bool:
            return bool(attach) and trip.attempts == 1

        async def walk() -> None:
            result = await serve(call, answer, self.pool, trip)
            if self.is_dead:
                return  # nothing that follows has happened
            self.watch.remove(answer)
            if self.running.get(id) is sink:
                del self.running[id]
            ended = outcome(call, answer, trip, result, self._clock.now())
            is_whole = isinstance(result, Served) and not sink.is_denied
            self._settled(id, kept, sink, ended.tokens_out, charged, resumes=resumes)
            if resumes and ended.tokens_out:
                self.served_from["ring" if is_attached() else "regenerated"] += 1
            if is_whole and kept is not None:
                made = KeptTokens(tuple(map(packed, sink.ids)), tuple(map(int, sink.whys)))
                self._journal.tell(self._journal.complete(id, made, KEEP_S))
            if ended.end not in (End.SERVED, End.ABANDONED):
                self._refuse(connection, No.FAILED)

        sink.came, sink.denied, connection.gone = came, denied, gone
        if charged is not None:
            self.running[id] = sink
        self.watch.add(answer)
        box.run(walk())

    def _settled(
        self, id: str, kept: KeptCall | None, sink: SimKeptSink, tokens: int, charged: int | None, *, resumes: bool
    ) -> None:  # fmt: skip
        new = new_tokens(0 if sink.is_denied else tokens, charged) if resumes else tokens
        self._ledger.append((id, new))
        if kept is not None and charged is not None:
            self._charged[id] = charged + new
            if self._journal.is_away:
                self.unheard.add(id)
            self._journal.tell(self._journal.note(id, charged=charged + new))

    def _refuse(self, connection: Connection, no: No) -> None:
        if not connection.is_cut:
            connection.event(no.name, -1, 0, Finish.FAILED)

    def _beat(self) -> None:
        if not self.is_dead:
            self._say_alive()
            self._clock.call_later(BEAT_S if self._is_known else LOOK_S, self._beat)

    def _say_alive(self) -> None:
        self._is_known = not self._journal.is_away
        self._journal.tell(self._journal.alive(self.name, LASTS_S))
