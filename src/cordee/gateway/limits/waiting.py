"""Tells those who wait for a seat where they stand: in headers once they have one, and, for streams that ask, in comments
meanwhile."""

from __future__ import annotations

from cordee.domain.call import Call
from cordee.domain.outcome import Refusal
from cordee.flow.answer import Answer
from cordee.flow.pool import Pool
from cordee.gateway.forward import ForwardSink
from cordee.gateway.sinks import TokenSink
from cordee.policy.seats import Queued, Seated
from cordee.ports import Clock, Timer

COMMENT_S = 1.0  # between two


def lines(position: int | None, wait_s: float | None) -> bytes:
    """Header lines; nothing of what is not known."""
    text = b"" if position is None else b"x-cordee-queue-position: %d\r\n" % position
    return text if wait_s is None else text + b"x-cordee-queue-wait: %.3f\r\n" % wait_s


def refused_lines(refusal: Refusal) -> bytes:
    """Of a call that was not let into the queue: where it would have stood, and for how long."""
    return lines(refusal.position, refusal.wait_s)


class Desk:
    """Port flow.pool.Desk; one per gateway."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def queued(self, call: Call, answer: Answer, pool: Pool, asked: Queued) -> Place | None:
        """A call waits. None: there is nobody to tell, or something of its answer has left already."""
        sink = answer.sink
        if answer.started or not isinstance(sink, TokenSink | ForwardSink):
            return None
        place = Place(sink, pool, asked, self._clock)
        if call.tells_queue and call.stream and not call.keep:
            place.comment()
        return place


class Place:
    """One call's place in the queue."""

    __slots__ = ("_asked", "_clock", "_pool", "_since_s", "_sink", "_timer", "_turns")

    def __init__(self, sink: TokenSink | ForwardSink, pool: Pool, asked: Queued, clock: Clock) -> None:
        self._sink = sink
        self._pool = pool
        self._asked = asked
        self._clock = clock
        self._since_s = clock.now()
        self._turns = pool.seats.turns
        self._timer: Timer | None = None

    def over(self, fact: Seated | Refusal | None) -> None:
        """The wait is over: with a seat, a refusal, or because the call has gone (None)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if fact is not None:
            position = self._asked.position if isinstance(fact, Seated) else self._position
            self._sink.mark(lines(position, self._clock.now() - self._since_s))

    def comment(self) -> None:
        position = self._position
        wait_s = self._asked.wait_s * (position + 1) / (self._asked.position + 1)
        self._sink.comment(b": queue position=%d wait=%.1f\n\n" % (position, wait_s))
        self._timer = self._clock.call_later(COMMENT_S, self.comment)

    @property
    def _position(self) -> int:
        """Whoever stood in front has had a turn by now, or has gone."""
        return max(0, self._asked.position - (self._pool.seats.turns - self._turns))
