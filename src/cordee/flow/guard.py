"""The way of a call while something is in quarantine: a proven request is refused at once, what asks the same as a suspect runs apart
with it, and a tenant whose requests killed too many workers has its calls run one after the other. Calls come this way only while
`Quarantine.is_watching`."""

from __future__ import annotations

from cordee.domain.call import Call
from cordee.flow.answer import Answer
from cordee.flow.facts import Closing, Expired, Gone, Resumed, Revoked
from cordee.flow.pool import Pool
from cordee.flow.serve import Result, interrupted, serve
from cordee.flow.trip import Trip
from cordee.flow.ward import Ward
from cordee.policy.quarantine import fingerprint


async def guarded(call: Call, answer: Answer, pool: Pool, ward: Ward, trip: Trip) -> Result:
    """As `serve`."""
    quarantine, now = ward.quarantine, pool.clock.now()
    mark = fingerprint(call)
    refused = quarantine.ask(now, mark)
    if refused is not None:
        return refused
    if mark in quarantine.suspects and call.work is not None:
        trip.mark = mark
        quarantine.suspected(mark)
    if not quarantine.is_isolated(now, call.tenant):
        return await serve(call, answer, pool, trip)
    is_first = ward.turn(call.tenant, answer.box)
    try:
        while not is_first:
            match await answer.box.next():
                case Gone() | Expired() | Closing() | Revoked() as fact:
                    ward.forget(trip)
                    return interrupted(fact)
                case Resumed():
                    is_first = True
                case _:
                    pass  # of nothing that this call has begun
        return await serve(call, answer, pool, trip)
    finally:
        ward.turn_over(call.tenant, answer.box)
