"""The way of a call from its seat to its outcome, on one page.

A call gets a seat in a pool; the seat is bound to a replica; the replica streams chunks, past this coroutine, to the
client. What breaks on the way is decided in `policy.after`: another attempt, with the tokens emitted so far, or the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

from cordee.domain.call import Call
from cordee.domain.outcome import End, Outcome, Refusal, Why
from cordee.domain.replica import ReplicaKind
from cordee.flow.answer import Answer
from cordee.flow.facts import DONE, RESUMED, Broken, Closing, Done, Expired, Fact, Gone, Resumed, Revoked
from cordee.flow.lookout import Lookout
from cordee.flow.pacing import token_s
from cordee.flow.pool import Pool
from cordee.flow.race import Rival
from cordee.flow.trip import Trip
from cordee.policy.after import Again, Stop, after
from cordee.policy.replica import Replica, Want
from cordee.policy.rest import in_vain, rest_s
from cordee.policy.seats import Queued, Seated, Ticket


@dataclass(frozen=True, slots=True)
class Served:
    """The answer is whole."""


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The client left."""


BUSY_PAUSE_S = 0.02  # a load report is at most one step or one beat old
SERVED, ABANDONED = Served(), Abandoned()

Result = Served | Abandoned | Refusal | Stop


async def serve(call: Call, answer: Answer, pool: Pool, trip: Trip) -> Result:
    """From the queue to the end. Never raises; every seat taken is given back."""
    now = pool.clock.now
    ticket = Ticket(call.id, call.priority, pool.want(call), call.arrived_s + _patience_s(call, pool), call.tenant)
    answer.trip = trip
    pool.budget.first_attempt()
    if pool.journal_bytes_max:
        answer.keep_sent(pool.journal_bytes_max)
    box = answer.box
    while True:
        asked = pool.ask(ticket, box, call) if trip.mark is None else _apart(answer, pool, trip, ticket)
        if not isinstance(asked, Seated):
            seat = await _turn(call, answer, pool, ticket, asked) if isinstance(asked, Queued) else asked
            if not isinstance(seat, Seated):
                return _left(pool, trip, seat)
            asked = seat
        began_s = now()
        trip.goes_to(asked.replica, ticket, asked.number, began_s, continues=answer.started)
        lookout = _begin(call, answer, pool, trip, began_s)
        fact = await box.next()
        while fact is not DONE and _goes_on(fact, answer):
            fact = await box.next()
        if lookout is not None:
            lookout.cancel()
        if call.keep and (isinstance(fact, Closing) or (isinstance(fact, Gone) and not fact.for_good)):
            answer.leave()
        else:
            answer.stop()
        replica, held = trip.replica, trip.ticket  # a second attempt may have won
        assert replica is not None
        assert held is not None
        ticket, number = held, trip.number
        pool.leave(replica, ticket)
        if ticket.charged:
            read = call.cost if call.work is None else call.work.tokens_in
            pool.seats.settled(ticket, read, answer.tokens)
        _note(answer, pool, trip, replica)
        match fact:
            case Done():
                replica.answered(number, call.tenant)
                if trip.mark is not None and pool.ward is not None:
                    pool.ward.ended(trip, served=True)
                return SERVED
            case Broken():
                following = _after(fact, replica, answer, pool, trip)
                if isinstance(following, Stop):
                    return _left(pool, trip, following)
                if fact.ended.busy:
                    over = await _busy(answer, pool, replica, fact.retry_after_s)
                    if over is not None:
                        return _left(pool, trip, over)
                ticket = _next_ticket(ticket, call, answer, replica, fact, following, trip)
            case Gone() | Expired() | Closing() | Revoked():
                replica.breaker.ended_neutrally(number)
                return _left(pool, trip, interrupted(fact))
            case Seated() | Refusal() | Resumed():
                raise AssertionError(f"{fact} cannot come while an attempt runs")
            case _:
                assert_never(fact)


def _apart(answer: Answer, pool: Pool, trip: Trip, ticket: Ticket) -> Seated | Queued:
    assert pool.ward is not None, "who is under suspicion came from a ward"
    return pool.ward.ask(ticket, answer, trip)


async def _turn(call: Call, answer: Answer, pool: Pool, ticket: Ticket, asked: Queued) -> Seated | Result:
    """Wait in the pool's queue, or in its ward."""
    if pool.rests_until_s > pool.clock.now():
        refused = in_vain(pool.clock.now(), pool.seats.replicas, ticket.start_by_s)
        if refused is not None:
            pool.withdraw(ticket)
            return refused
    place = pool.desk.queued(call, answer, pool, asked) if pool.desk is not None else None
    while True:
        fact = await answer.box.next()
        match fact:
            case Seated() | Refusal():
                if place is not None:
                    place.over(fact)
                return fact
            case Gone() | Expired() | Closing() | Revoked():
                pool.withdraw(ticket)
                if place is not None:
                    place.over(None)
                return interrupted(fact)
            case Done() | Broken() | Resumed():
                pass  # of an attempt that was given up already
            case _:
                assert_never(fact)


def _begin(call: Call, answer: Answer, pool: Pool, trip: Trip, now: float) -> Lookout | None:
    """An attempt begins."""
    remaining_s = call.arrived_s + call.deadlines.total_s - now
    receiver = answer.began()
    replica, ticket, rules = trip.replica, trip.ticket, pool.rules
    assert replica is not None
    assert ticket is not None
    running = pool.upstreams[replica.id].start(
        call, answer.attempt, answer.outputs, answer.done, remaining_s, receiver, answer.sent or ()
    )
    answer.running = running
    if pool.hedge is not None or rules.first_token_s or rules.between_tokens_s:
        return Lookout(answer, pool, trip, ticket)
    return None


def _goes_on(fact: Fact, answer: Answer) -> bool:
    """The fact is no end of the attempt under way."""
    if isinstance(fact, Broken):
        if fact.attempt != answer.attempt:
            return True  # of an attempt that was given up already
        if isinstance(answer.on_first, Rival) and not fact.ended.crash:
            answer.on_first.goes_on(fact)
            return True
    return isinstance(fact, Resumed)


async def _busy(answer: Answer, pool: Pool, replica: Replica, retry_after_s: float | None) -> Result | None:
    """The replica refused before work. Another server's word is kept by all calls, if it is not about this one alone, and this one
    goes elsewhere at once; one of our own seemed to have room: let its next report come in before asking again."""
    clock = pool.clock
    if replica.kind is not ReplicaKind.LINK:
        if retry_after_s == 0:
            return None
        pause_s = rest_s(retry_after_s, pool.rules)
        until_s = clock.now() + pause_s
        replica.rest(until_s)
        pool.rests_until_s = max(pool.rests_until_s, until_s)
        clock.call_later(pause_s, pool.settle)
        return None
    clock.call_later(retry_after_s or BUSY_PAUSE_S, lambda: answer.box.post(RESUMED))
    while True:
        fact = await answer.box.next()
        match fact:
            case Resumed():
                return None
            case Gone() | Expired() | Closing() | Revoked():
                return interrupted(fact)
            case _:
                pass  # of an attempt that was given up already


def _after(broken: Broken, replica: Replica, answer: Answer, pool: Pool, trip: Trip) -> Again | Stop:
    ended, call = broken.ended, answer.call
    if ended.crash and pool.ward is not None:
        proven = pool.ward.crashed(replica, answer, trip, ended.crash)
        if proven is not None:
            return proven
    elif trip.mark is not None and pool.ward is not None:
        pool.ward.ended(trip, served=False)
    now = pool.clock.now()
    is_miss = call.attach == replica.id and trip.attempts == 1 and not ended.ran  # what was kept there is gone
    if not is_miss:
        answer.broken_s = now
    if ended.busy or ended.fault or is_miss:
        replica.breaker.ended_neutrally(trip.number)
    else:
        replica.broke(now, pool.rng.random(), trip.number, call=call.id, tenant=call.tenant, ran=ended.ran)
    if ended.silent:
        trip.never |= {replica.id}
    following = after(
        ended, replica.kind, started=answer.started, attempts=trip.broke(busy=ended.busy, ran=ended.ran), rules=pool.rules,
        continues=answer.sent is not None,
    )  # fmt: skip
    if isinstance(following, Stop):
        return following
    if following.charged and not pool.budget.ask(now):
        return Stop(Why.ATTEMPTS, f"the retry budget is spent; the attempt failed with: {ended.cause}")
    if ended.silent and not any(other.ready and other.id not in trip.never for other in _all(pool)):
        return Stop(Why.ATTEMPTS, f"all {len(trip.never)} replicas were silent; the last one: {ended.cause}")
    return following


def _all(pool: Pool) -> list[Replica]:
    return [*pool.seats.replicas, *pool.seats.clouds]


def _next_ticket(
    ticket: Ticket, call: Call, answer: Answer, replica: Replica, broken: Broken, following: Again, trip: Trip
) -> Ticket:
    """The place in the line of a call that goes on: at the front and until its own deadline, unless no replica has
    taken it yet."""
    accepted = not broken.ended.busy or ticket.accepted
    want = Want(
        ticket.size,
        anyway=accepted,
        avoid=replica.id if following.elsewhere else "",
        never=trip.never,
        fingerprint=replica.fingerprint if answer.started else "",
        continues=answer.started and replica.kind is not ReplicaKind.LINK,
        affinity=call.affinity,
        region=call.region,
        own=ticket.want.own,
    )
    start_by_s = call.arrived_s + call.deadlines.total_s if accepted else ticket.start_by_s
    return Ticket(call.id, call.priority, want, start_by_s, call.tenant, accepted)


def _note(answer: Answer, pool: Pool, trip: Trip, replica: Replica) -> None:
    """What the attempt has shown of the replica's pace: seconds to its first token, and from token to token."""
    first_s = -1.0
    if answer.first_s is not None and answer.first_s >= trip.began_s:
        first_s = answer.first_s - trip.began_s
        if pool.hedge is not None:
            pool.hedge.note(first_s)
    replica.pace.noted(answer.last_s, first_s, token_s(answer) if trip.attempts == 1 and answer.outputs else -1.0)


def _left(pool: Pool, trip: Trip, result: Result) -> Result:
    """The call is over: nobody waits for it in the ward."""
    if trip.mark is not None and pool.ward is not None:
        pool.ward.forget(trip)
    return result


def interrupted(fact: Gone | Expired | Closing | Revoked) -> Result:
    """How a call ends that something from outside ends."""
    match fact:
        case Gone():
            return ABANDONED
        case Expired():
            return Stop(Why.DEADLINE, fact.what)
        case Closing():
            return Stop(Why.SHUTDOWN, "this gateway is shutting down; ask again")
        case Revoked():
            return Stop(Why.REVOKED, "the API key, sign-in or user behind this call was revoked; show another one")
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
    replica = trip.replica
    return Outcome(
        call.id, end, call.model, call.tenant, why,
        replica.id if replica is not None else "",
        trip.attempts, trip.continued, trip.identical,
        call.work.tokens_in if call.work is not None else 0,
        answer.tokens if answer.outputs else 0,
        seated_s - call.arrived_s,
        answer.first_s - call.arrived_s if answer.first_s is not None else None,
        now - call.arrived_s,
        call.key_id, call.path, trip.asked, trip.replicas,
        trip.continuation.name.lower() if trip.continuation is not None else "",
        False, replica is not None and replica.kind is ReplicaKind.CLOUD, 0.0, answer.cached,
    )  # fmt: skip
