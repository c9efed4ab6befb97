"""One kept call at this gateway: what the journal hears of it while it runs, and what becomes of it at its end.

The journal is told behind the call's back: a remark that is lost costs a generation made again, never an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from enum import StrEnum
from typing import Any, Protocol

from cordee.domain.kept import KeptBytes, KeptCall, KeptTokens
from cordee.domain.outcome import End, Outcome, Why
from cordee.flow.trip import Trip
from cordee.http.exchange import Outlet
from cordee.ports import Journal

NO_TRIP = Trip()


class Behind(Protocol):
    """Runs what nobody waits for."""

    def __call__(self, what: Coroutine[Any, Any, None]) -> None: ...


class Source(StrEnum):
    """Where the answer of a client that came back was taken from."""

    RING = "ring"  # the worker that kept it
    JOURNAL = "journal"  # the store, or this gateway's own memory
    REGENERATED = "regenerated"  # it was made again from its seed


class Kept:
    """`key`: its idempotency key, "" for none. `attach`: the replica that may still have the answer. `resumes`: its client, or
    another one, comes back for a call that began elsewhere; `charged`: tokens of it that were accounted for.

    `trip` is where the call is on its way: set when it begins. `is_journaled`: what comes in is the journal's own answer.
    """

    __slots__ = (
        "_behind", "_exchange", "_has_told", "_journal", "_keep_s", "_replica", "attach", "call", "charged", "ended", "has_begun",
        "is_journaled", "key", "new_tokens", "resumes", "served_from", "trip", "verdict",
    )  # fmt: skip

    def __init__(
        self, call: KeptCall, key: str, journal: Journal, keep_s: float, behind: Behind, exchange: Outlet,
        *, attach: str = "", resumes: bool = False, charged: int | None = None,
    ) -> None:  # fmt: skip
        self.call = call
        self.key = key
        self.attach = attach
        self.resumes = resumes
        self.charged = charged
        self.trip = NO_TRIP
        self.is_journaled = False
        self.has_begun: Callable[[], bool] = lambda: False  # whether its client has the beginning of a stream
        self.new_tokens: Callable[[], int] = int  # how many of its tokens the client had not got before
        self.ended: Callable[[], None] = lambda: None
        self.verdict: Callable[[str], None] = lambda result: None  # hears how a resume went
        self.served_from: Callable[[Source], None] = lambda source: None  # hears where a resume was served from, once
        self._has_told = False
        self._journal = journal
        self._keep_s = keep_s
        self._behind = behind
        self._exchange = exchange
        self._replica = attach

    @property
    def is_attached(self) -> bool:
        """What comes in is the answer that was kept, not one that is made again."""
        if self.is_journaled:
            return True
        replica = self.trip.replica
        return bool(self.attach) and self.trip.attempts == 1 and replica is not None and replica.id == self.attach

    def goes_on(self) -> None:
        """The client that came back is given the rest, or the whole."""
        if not self._has_told:
            self._has_told = True
            self.served_from(
                Source.JOURNAL if self.is_journaled else Source.RING if self.is_attached else Source.REGENERATED
            )

    def came_from(self) -> None:
        """A token came. Says where it came from, when that is somewhere new."""
        replica = self.trip.replica
        if replica is not None and replica.id != self._replica:
            self._replica = replica.id
            self._behind(self._journal.note(self.call.id, replica=replica.id))

    def complete(self, answer: KeptTokens | KeptBytes | None) -> None:
        """The answer is whole; None: it cannot be kept."""
        if self.is_journaled:
            self.goes_on()
        else:
            self._behind(self._journal.complete(self.call.id, answer, self._keep_s))

    def failed(self) -> None:
        """The answer did not come about: the key may be used again."""
        if self.key and not self.resumes:
            self._behind(self._journal.release(self.call.tenant, self.key, self.call.id))

    def declined(self) -> None:
        """The call was refused before it went anywhere."""
        self.ended()
        if not self.resumes:
            self.failed()
            self._behind(self._journal.forget(self.call.id))

    def settled(self, outcome: Outcome) -> Outcome:
        """The call has ended here. What is returned counts tokens once, however often its client came back."""
        self.ended()
        if outcome.why is Why.SHUTDOWN and self._replica:
            outcome = replace(outcome, end=End.ABANDONED)  # by this gateway: it goes on at its replica
        if outcome.end is not End.SERVED:
            if outcome.end is not End.ABANDONED or not self._replica:
                self.failed()
            if self._exchange.is_open:  # its client still listens: it sees a break, and reconnects to another gateway
                self._exchange.abort()
        if self.resumes:
            if self.trip.attempts and outcome.tokens_out:
                self.goes_on()
            new = self.new_tokens()
            if self.charged is not None:
                self._behind(self._journal.note(self.call.id, charged=self.charged + new))
            return replace(outcome, resumed=True, tokens_in=0, tokens_out=new)
        self._behind(self._journal.note(self.call.id, charged=outcome.tokens_out))
        return outcome
