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
    """How often a call is tried, and how. `journal_bytes_max`: of what left of a forwarded answer is remembered up to this much,
    to go on from. `first_token_s` and `between_tokens_s`: the silence after which one attempt is given up while its call may
    go on elsewhere; 0: never. A server that is busy is left alone for as long as it asks, at most `rest_s_max`, or for `rest_s`
    where it does not say."""

    attempts_max: int = 3
    continuations_max: int = 8
    journal_bytes_max: int = 256 * 1024
    first_token_s: float = 0.0
    between_tokens_s: float = 0.0
    rest_s: float = 1.0
    rest_s_max: float = 300.0


@record
class Ended:
    """How the attempt ended. `busy`: refused before work. `ran`: it may have worked. `fault`: the work itself is wrong.
    `silent`: we gave it up. `crash`: the replica's process ended with this many attempts of ours in it; 0: it did not."""

    cause: str
    busy: bool = False
    ran: bool = True
    fault: bool = False
    silent: bool = False
    crash: int = 0


@record
class Again:
    """Try again. `elsewhere`: not at the same replica if there is another; `charged`: only if the budget allows."""

    elsewhere: bool
    charged: bool


@record
class Stop:
    """The call fails. `fault`: by what it asks for; no other replica or model would answer it."""

    why: Why
    message: str
    fault: bool = False


def after(
    ended: Ended, kind: ReplicaKind, *, started: bool, attempts: int, rules: AttemptRules, continues: bool = False
) -> Again | Stop:
    """`started`: something has left for the client. `attempts`: how many ended like this one, busy or broken, this one included:
    to be refused before work costs no attempt. `continues`: what left of a forwarded answer is known, and a server of the pool
    can go on from it."""
    if ended.fault:
        return Stop(Why.UNFIT, ended.cause, fault=True)
    if ended.busy:
        return Again(elsewhere=attempts <= BUSY_HOPS_MAX, charged=False)
    if kind is ReplicaKind.LINK:
        if attempts > rules.continuations_max:
            return Stop(Why.ATTEMPTS, f"{attempts} workers in a row broke off ({ended.cause}); see the workers' logs")
        return Again(elsewhere=True, charged=False)
    if started and not continues:
        return Stop(Why.REPLICA, f"the upstream server broke off in the middle of its answer: {ended.cause}")
    if attempts >= rules.attempts_max:
        return Stop(Why.ATTEMPTS, f"{attempts} attempts failed, the last one with: {ended.cause}")
    return Again(elsewhere=True, charged=ended.ran and not started)
