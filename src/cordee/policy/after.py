"""Decides what follows when an attempt ended without an answer: another attempt, or the end of the call.

The commit point is the first token that left for the client. Before it, another attempt is a *retry*; after it, only a
*continuation* at a replica that can take token ids and computes with the same model is allowed. Attempts at our own
workers repeat nothing that anyone could notice, so they are not charged to the retry budget: an accepted call is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

from cordee.domain.outcome import Why
from cordee.domain.record import record
from cordee.domain.replica import ReplicaKind

BUSY_HOPS_MAX = 2  # a refusal before work may be passed on this often, then the call waits in the queue again


@dataclass(frozen=True, slots=True)
class AttemptRules:
    attempts_max: int = 3
    continuations_max: int = 8


@record
class Ended:
    """How the attempt ended. `busy`: refused before work. `ran`: it may have worked. `fault`: the work itself is wrong."""

    cause: str
    busy: bool = False
    ran: bool = True
    fault: bool = False


@record
class Again:
    """Try again. `elsewhere`: not at the same replica if there is another; `charged`: only if the budget allows."""

    elsewhere: bool
    charged: bool


@record
class Stop:
    """The call fails."""

    why: Why
    message: str


def after(ended: Ended, kind: ReplicaKind, *, started: bool, attempts: int, rules: AttemptRules) -> Again | Stop:
    """`started`: something has left for the client; `attempts`: how many there were, this one included."""
    if ended.fault:
        return Stop(Why.REPLICA, ended.cause)
    if ended.busy:
        return Again(elsewhere=attempts <= BUSY_HOPS_MAX, charged=False)
    if kind is ReplicaKind.LINK:
        if attempts > rules.continuations_max:
            return Stop(Why.ATTEMPTS, f"{attempts} workers in a row broke off ({ended.cause}); see the workers' logs")
        return Again(elsewhere=True, charged=False)
    if started:
        return Stop(Why.REPLICA, f"the upstream server broke off in the middle of its answer: {ended.cause}")
    if attempts >= rules.attempts_max:
        return Stop(Why.ATTEMPTS, f"{attempts} attempts failed, the last one with: {ended.cause}")
    return Again(elsewhere=True, charged=ended.ran)
