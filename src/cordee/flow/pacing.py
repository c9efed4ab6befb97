"""Tells replicas now and then how fast their calls in flight go: a slow answer ends late, and would be known too late. It reads
what an answer knows anyway, so that a token costs nothing more."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from cordee.flow.trip import Trip

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cordee.flow.answer import Answer

LOOK_S = 0.1  # between two looks at calls in flight
LOOKED_AT_MIN = 64  # answers a look takes in, and a share of those in flight beyond: all of them within two seconds
LOOKED_AT_SHARE = 1 / 16
TOKENS_MIN = 4  # of a choice, from which a rate can be told


class Pacer:
    """One per process."""

    __slots__ = ("_left", "_next_s")

    def __init__(self) -> None:
        self._left: Iterator[Answer] = iter(())
        self._next_s = float("-inf")

    def look(self, now: float, in_flight: Collection[Answer]) -> None:
        if now < self._next_s or not in_flight:
            return
        self._next_s = now + LOOK_S
        wanted = LOOKED_AT_MIN + int(len(in_flight) * LOOKED_AT_SHARE)
        seen = list(islice(self._left, wanted))
        if len(seen) < wanted:
            self._left = iter(tuple(in_flight))
            seen += islice(self._left, wanted - len(seen))
        for answer in seen:
            if answer.trip is not None and answer in in_flight:
                _goes(now, answer, answer.trip)


def _goes(now: float, answer: Answer, trip: Trip) -> None:
    """An attempt is in flight."""
    replica = trip.replica
    if replica is None or answer.running is None:
        return
    if answer.last_s <= trip.began_s:
        replica.pace.waited(now, now - trip.began_s)
    elif trip.attempts == 1:
        replica.pace.noted(now, -1.0, token_s(answer))


def token_s(answer: Answer) -> float:
    """Seconds from token to token of a choice, of a call that has had one attempt; negative where that cannot be told."""
    if answer.first_s is None or not answer.outputs:
        return -1.0
    count = answer.tokens / len(answer.outputs)
    return (answer.last_s - answer.first_s) / (count - 1) if count >= TOKENS_MIN else -1.0
