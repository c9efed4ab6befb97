"""The way of a call from its seat to its outcome, on one page.

A call gets a seat in a pool; the seat is bound to a replica; the replica streams chunks, past this coroutine, to the
client. What breaks on the way is decided in `policy.after`: another attempt, with the tokens emitted so far, or the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from cordee.domain.call import Call
from cordee.domain.outcome import End, Outcome, Refusal, Why
from cordee.flow.answer import Answer
from cordee.flow.facts import RESUMED, Broken, Closing, Done, Expired, Fact, Gone, Resumed
from cordee.flow.pool import Pool
from cordee.policy.after import Again, Stop, after
from cordee.policy.route import Replica, Size, Want
from cordee.policy.seats import Queued, Seated, Ticket


@dataclass(frozen=True, slots=True)
class Served:
    """The answer is whole."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The client left."""


BUSY_PAUSE_S = 0.02  # a load report is at most one step or one beat old

Result = Served | Abandoned | Refusal | Stop


class Trip:
    """What is worth remembering about one call on its way."""

    __slots__ = ("attempts", "continued", "identical", "replica", "seated_s")

    def __init__(self) -> None:
        self.attempts = 0
        self.continued = 0
        self.identical = True
        self.replica: Replica | None = None
        self.seated_s: float | None = None

    def goes_to(self, replica: Replica, now: float, *, continues: bool) -> None:
        self.attempts += 1
        if self.seated_s is None:
            self.seated_s = now
        if continues:
            self.continued += 1
            self.identical = self.identical and replica.exact
        self.replica = replica


async def serve(call: Call, answer: Answer, pool: Pool, trip: Trip) -> Result:
    """From the queue to the end. Never raises; every seat taken is given back."""
    now = pool.clock.now
    want = Want(Size(call.sequences, call.cost))
    ticket = Ticket(call.id, call.priority, want, call.arrived_s + _patience_s(call, pool), call.tenant)
    pool.budget.first_attempt()
    while True:
        asked = pool.ask(ticket, answer.box)
        seat = await _turn(answer, pool, ticket) if isinstance(asked, Queued) else asked
        if not isinstance(seat, Seated):
            return seat
        replica = seat.replica
        trip.goes_to(replica, now(), continues=answer.started)
        fact = await _attempt(call, answer, pool, replica, now())
        answer.stop()
        pool.leave(replica, ticket)
        match fact:
            case Done():
                replica.breaker.succeeded()
                return Served()
            case Broken():
                following = _after(fact, replica, answer, pool, trip)
                if isinstance(following, Stop):
                    return following
                if fact.ended.busy:
                    interrupted = await _pause(answer, pool, fact.retry_after_s)
                    if interrupted is not None:
                        return interrupted
                ticket = _next_ticket(ticket, call, answer, replica, fact, following)
            case Gone() | Expired() | Closing():
                replica.breaker.ended_neutrally()
                return _interrupted(fact)
            case Seated() | Refusal() | Resumed():
                raise AssertionError(f"{fact} cannot come while an attempt runs")
            case _:
                assert_never(fact)


async def _turn(answer: Answer, pool: Pool, ticket: Ticket) -> Seated | Result:
    """Wait in the pool's queue."""
    while True:
        fact = await answer.box.next()
        match fact:
            case Seated() | Refusal():
                return fact
            case Gone() | Expired() | Closing():
                pool.withdraw(ticket)
                return _interrupted(fact)
            case Done() | Broken() | Resumed():
                pass  # of an attempt that was given up already
            case _:
                assert_never(fact)


async def _attempt(call: Call, answer: Answer, pool: Pool, replica: Replica, now: float) -> Fact:
    remaining_s = call.arrived_s + call.deadlines.total_s - now
    receiver = answer.began()
    number = answer.attempt
    running = pool.upstreams[replica.id].start(
        call, number, answer.outputs, frozenset(answer.done), remaining_s, receiver
    )
    answer.running = running
    while True:
        fact = await answer.box.next()
        if isinstance(fact, Resumed) or (isinstance(fact, Broken) and fact.attempt != number):
            continue  # of an attempt that was given up already
        return fact


async def _pause(answer: Answer, pool: Pool, retry_after_s: float | None) -> Result | None:
    """A replica was busy although it seemed to have room: let its next report come in before asking again."""
    pool.clock.call_later(retry_after_s or BUSY_PAUSE_S, lambda: answer.box.post(RESUMED))
    while True:
        fact = await answer.box.next()
        match fact:
            case Resumed():
                return None
            case Gone() | Expired() | Closing():
                return _interrupted(fact)
            case _:
                pass  # of an attempt that was given up already


def _after(broken: Broken, replica: Replica, answer: Answer, pool: Pool, trip: Trip) -> Again | Stop:
    ended = broken.ended
    answer.broken_s = pool.clock.now()
    if ended.busy or ended.fault:
        replica.breaker.ended_neutrally()
    else:
        replica.breaker.failed(pool.clock.now(), pool.rng.random())
    following = after(ended, replica.kind, started=answer.started, attempts=trip.attempts, rules=pool.rules)
    if isinstance(following, Again) and following.charged and not pool.budget.ask(pool.clock.now()):
        return Stop(Why.ATTEMPTS, f"the retry budget is spent; the attempt failed with: {ended.cause}")
    return following


def _next_ticket(
    ticket: Ticket, call: Call, answer: Answer, replica: Replica, broken: Broken, following: Again
) -> Ticket:
    """The place in the line of a call that goes on: at the front and until its own deadline, unless no replica has
    taken it yet."""
    accepted = not broken.ended.busy or ticket.accepted
    want = Want(
        ticket.size,
        anyway=accepted,
        avoid=replica.id if following.elsewhere else "",
        fingerprint=replica.fingerprint if answer.started else "",
    )
    start_by_s = call.arrived_s + call.deadlines.total_s if accepted else ticket.start_by_s
    return Ticket(call.id, call.priority, want, start_by_s, call.tenant, accepted)


def _interrupted(fact: Gone | Expired | Closing) -> Result:
    match fact:
        case Gone():
            return Abandoned()
        case Expired():
            return Stop(Why.DEADLINE, fact.what)
        case Closing():
            return Stop(Why.SHUTDOWN, "this gateway is shutting down; ask again")
        case _:
            assert_never(fact)


def _patience_s(call: Call, pool: Pool) -> float:
    wait_s = pool.seats.rules.wait_s_max
    limits = call.deadlines
    return wait_s if wait_s < limits.first_token_s else min(limits.first_token_s, limits.total_s)


def outcome(call: Call, answer: Answer, trip: Trip, result: Result, now: float) -> Outcome:
    """The one record of this call."""
    match result:
        case Served():
            end, why = End.SERVED, None
        case Abandoned():
            end, why = End.ABANDONED, None
        case Refusal():
            end, why = End.REFUSED, result.why
        case Stop():
            end, why = End.FAILED, result.why
        case _:
            assert_never(result)
    seated_s = trip.seated_s if trip.seated_s is not None else now
    return Outcome(
        call.id, end, call.model, call.tenant, why,
        trip.replica.id if trip.replica is not None else "",
        trip.attempts, trip.continued, trip.identical,
        len(call.work.prompt) if call.work is not None else 0,
        answer.tokens if answer.outputs else 0,
        seated_s - call.arrived_s,
        answer.first_s - call.arrived_s if answer.first_s is not None else None,
        now - call.arrived_s,
    )  # fmt: skip
