"""Looks after one attempt more closely than the deadlines of its call do: gives it up when it is silent for too long, so that
the call may go on elsewhere, and asks a second replica when the first token is late. Made only where the configuration asks for
one of the two; an attempt without it pays nothing."""

from __future__ import annotations

from cordee.flow.answer import Answer
from cordee.flow.facts import Broken
from cordee.flow.pool import Pool
from cordee.flow.race import race
from cordee.flow.trip import Trip
from cordee.policy.after import AttemptRules, Ended
from cordee.policy.seats import Ticket
from cordee.ports import Timer


class Lookout:
    """One attempt, from its start to its end."""

    __slots__ = ("_answer", "_began_s", "_hedging", "_number", "_pool", "_silence", "_ticket", "_trip")

    def __init__(self, answer: Answer, pool: Pool, trip: Trip, ticket: Ticket) -> None:
        self._answer = answer
        self._pool = pool
        self._trip = trip
        self._ticket = ticket
        self._number = answer.attempt
        self._began_s = pool.clock.now()
        self._silence = self._wait(first=True)
        self._hedging = self._hedge()

    def cancel(self) -> None:
        """The attempt is over."""
        for timer in (self._silence, self._hedging):
            if timer is not None:
                timer.cancel()

    def _wait(self, *, first: bool) -> Timer | None:
        rules = self._pool.rules
        wait_s = rules.first_token_s if first else rules.between_tokens_s
        if not wait_s:
            return None
        return self._pool.clock.call_later(wait_s, self._first_due if first else self._next_due)

    def _first_due(self) -> None:
        self._silence = None
        if self._is_over:
            return
        if self._answer.last_s <= self._began_s:
            self._give_up(self._pool.rules, self._pool.rules.first_token_s)
        else:
            self._silence = self._wait(first=False)

    def _next_due(self) -> None:
        self._silence = None
        if self._is_over:
            return
        rules, clock = self._pool.rules, self._pool.clock
        left_s = self._answer.last_s + rules.between_tokens_s - clock.now()
        if left_s <= 0:
            self._give_up(rules, rules.between_tokens_s)
        else:
            self._silence = clock.call_later(left_s, self._next_due)

    @property
    def _is_over(self) -> bool:
        """The attempt; a second one that won is looked after by the deadlines of the call."""
        return self._answer.attempt != self._number

    def _give_up(self, rules: AttemptRules, silence_s: float) -> None:
        ended = Ended(f"it was silent for {silence_s:g} s", silent=True)
        self._answer.box.post(Broken(self._number, ended))

    def _hedge(self) -> Timer | None:
        hedge, answer = self._pool.hedge, self._answer
        if hedge is None or answer.first_s is not None or self._trip.attempts > 1 or answer.call.keep:
            return None
        wait_s = hedge.began()
        return None if wait_s is None else self._pool.clock.call_later(wait_s, self._late)

    def _late(self) -> None:
        self._hedging = None
        if not self._is_over and self._answer.first_s is None:
            race(self._answer, self._pool, self._trip, self._ticket)
