"""Two attempts at one call before its first token: whoever gives the first token goes on, the other one is cancelled and its seat
given back at once. Nothing of the second one is heard before it has won, so the journal of the call knows only one attempt at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.replica import Continuation, ReplicaKind
from cordee.flow.answer import Answer, Attempt
from cordee.flow.facts import Broken
from cordee.flow.pool import Pool
from cordee.flow.trip import Trip
from cordee.policy.replica import Want
from cordee.policy.seats import Queued, Seated, Ticket
from cordee.ports import Running

LOOKED_AT_MAX = 16  # replicas from which the pool's utilisation is told: a sample is enough to say "busy"


def race(answer: Answer, pool: Pool, trip: Trip, ticket: Ticket) -> None:
    """The first token is late: ask another replica too, if there is one, room for it, and a hedge to spend."""
    first, hedge, seats = trip.replica, pool.hedge, pool.seats
    if first is None or hedge is None or first.kind is ReplicaKind.CLOUD or not first.fingerprint or seats.waiting:
        return
    if not hedge.ask(utilisation(pool)):
        return
    now = pool.clock.now()
    want = Want(ticket.size, never=frozenset({first.id}), fingerprint=first.fingerprint)
    second = replace(ticket, want=want)
    asked = seats.ask(now, pool.rng, second)
    if isinstance(asked, Queued):
        seats.withdraw(second)
    elif isinstance(asked, Seated):
        _begin(answer, pool, trip, asked, second)


def utilisation(pool: Pool) -> float:
    """Sequences in use over those there are, of a sample of the ready replicas."""
    replicas = pool.seats.replicas
    sample = replicas if len(replicas) <= LOOKED_AT_MAX else pool.rng.sample(replicas, LOOKED_AT_MAX)
    ready = [replica for replica in sample if replica.ready]
    used, most = sum(replica.used for replica in ready), sum(replica.capacity.sequences for replica in ready)
    return used / most if most else 1.0


def _begin(answer: Answer, pool: Pool, trip: Trip, seat: Seated, ticket: Ticket) -> None:
    call = answer.call
    rival = Rival(answer, pool, trip, seat, ticket)
    answer.on_first = rival
    trip.attempts += 1
    remaining_s = call.arrived_s + call.deadlines.total_s - pool.clock.now()
    upstream = pool.upstreams[seat.replica.id]
    rival.runs(upstream.start(call, rival.number, answer.outputs, frozenset(), remaining_s, rival))


class Rival:
    """Port Receiver of the second attempt, and who waits for the first token of the first one."""

    __slots__ = (
        "_answer",
        "_began_s",
        "_breaker_number",
        "_head",
        "_inner",
        "_pool",
        "_replica",
        "_running",
        "_ticket",
        "_trip",
        "number",
    )

    def __init__(self, answer: Answer, pool: Pool, trip: Trip, seat: Seated, ticket: Ticket) -> None:
        self._answer = answer
        self._pool = pool
        self._trip = trip
        self._replica = seat.replica
        self._ticket = ticket
        self._breaker_number = seat.number
        self._began_s = pool.clock.now()
        self._running: Running | None = None
        self._inner: Attempt | None = None  # once it has won
        self._head: tuple[int, Sequence[tuple[bytes, bytes]]] | None = None
        self.number = answer.attempt + 1

    # -- before the decision

    @property
    def _is_open(self) -> bool:
        return self._answer.on_first is self

    def runs(self, running: Running) -> None:
        """It was started; by then it may already be over."""
        if self._is_open:
            self._running = running
        elif self._inner is not None:
            self._answer.running = running
        else:
            running.cancel()

    def came(self) -> None:
        """The first attempt gave the first token."""
        self._give_back()

    def too_late(self) -> None:
        """The call is over, or its attempts are."""
        self._give_back()

    def goes_on(self, broken: Broken) -> None:
        """The first attempt broke: this one is the only one from now on."""
        first, pool, now = self._trip.replica, self._pool, self._pool.clock.now()
        assert first is not None
        if broken.ended.busy:
            first.breaker.ended_neutrally(self._trip.number)
        else:
            call = self._answer.call
            first.broke(
                now, pool.rng.random(), self._trip.number, call=call.id, tenant=call.tenant, ran=broken.ended.ran
            )
        self._take_over()

    def _give_back(self) -> None:
        self._answer.on_first = None
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
        self._replica.breaker.ended_neutrally(self._breaker_number)
        self._pool.leave(self._replica, self._ticket)

    def _win(self) -> Attempt:
        """The first token is this one's."""
        if self._inner is None:
            first = self._trip.replica
            assert first is not None
            first.breaker.ended_neutrally(self._trip.number)
            if self._pool.hedge is not None:
                self._pool.hedge.won += 1
            return self._take_over()
        return self._inner

    def _take_over(self) -> Attempt:
        answer, trip = self._answer, self._trip
        first, ticket = trip.replica, trip.ticket
        assert first is not None
        assert ticket is not None
        answer.on_first = None
        loser, answer.running = answer.running, self._running
        self._running = None
        answer.attempt = self.number
        if loser is not None:
            loser.cancel()
        if self._pool.hedge is not None:  # it would have taken the first one longer still
            self._pool.hedge.note(self._pool.clock.now() - trip.began_s)
        trip.began_s = self._began_s
        trip.takes(self._replica, self._ticket, self._breaker_number)
        self._inner = inner = Attempt(answer, self.number)
        if self._head is not None:
            inner.head(*self._head)
        self._pool.leave(first, ticket)
        return inner

    @property
    def _is_heard(self) -> bool:
        return self._inner is not None or self._is_open

    # -- port Receiver

    def accepted(self) -> None:
        if self._inner is not None:
            self._inner.accepted()

    def token(self, choice: int, index: int, token: int, logprobs: TokenLogprobs | None) -> None:
        if self._is_heard:
            self._win().token(choice, index, token, logprobs)

    def finish(self, choice: int, index: int, why: Finish) -> None:
        if self._inner is not None:
            self._inner.finish(choice, index, why)
        elif self._is_open and why in (Finish.STOP, Finish.LENGTH):
            self._win().finish(choice, index, why)
        elif self._is_open:
            self._give_back()

    def text(self, choice: int, text: str, why: Finish = Finish.NONE) -> None:
        if self._is_heard:
            self._win().text(choice, text, why)

    def usage(self, tokens_in: int, tokens_out: int) -> None:
        if self._inner is not None:
            self._inner.usage(tokens_in, tokens_out)

    def continued(self, way: Continuation) -> None:
        if self._inner is not None:
            self._inner.continued(way)

    def cached(self, tokens: int) -> None:
        if self._inner is not None:
            self._inner.cached(tokens)

    def result(self, choice: int, data: bytes) -> None:
        if self._is_heard:
            self._win().result(choice, data)

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        if self._inner is not None:
            self._inner.head(status, headers)
        else:
            self._head = (status, headers)

    def body(self, data: bytes) -> None:
        if self._is_heard:
            self._win().body(data)

    def complete(self) -> None:
        if self._is_heard:
            self._win().complete()

    def broken(self, cause: str, *, ran: bool, fault: bool = False, crash: int = 0) -> None:
        if self._inner is not None:
            self._inner.broken(cause, ran=ran, fault=fault, crash=crash)
        elif self._is_open:
            self._give_back()

    def busy(self, retry_after_s: float | None) -> None:
        if self._inner is not None:
            self._inner.busy(retry_after_s)
        elif self._is_open:
            self._give_back()
