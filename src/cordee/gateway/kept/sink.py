"""The client's side of an answer that can be resumed: every event says where in the answer it stands, and what a client has
already is not sent again.

A resumed answer comes in from its beginning, from the worker that kept it or from one that makes it again. It runs through the
same detokeniser and the same search for stop strings, and through the rolling hash; at the client's position the hash tells
whether this is the answer that the client has the beginning of. Only then does anything leave.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.kept import KeptTokens, packed
from cordee.flow.facts import GONE, Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.rejoin import Rejoin, Rejoined
from cordee.gateway.kept.call import Kept
from cordee.gateway.replies import diverged, no_stream
from cordee.gateway.sinks import EVENTS, TokenSink
from cordee.http.exchange import Outlet
from cordee.policy.accounts import new_tokens
from cordee.wire.position import ENDED, MASK, OPEN, PRIME, RESTED, START, Position, written
from cordee.wire.shape import Shape

FROM_TEXT = "t." + "0" * 16  # the place of text that no worker of ours made: nothing can be resumed from it


class KeptSink(TokenSink):
    """`start` is where the client is, None for the beginning. `opening`: what goes before the first event."""

    __slots__ = (
        "_denied", "_has_usage", "_hashes", "_ids", "_is_text", "_opened", "_opening", "_rested", "_sent", "_sent_hashes",
        "_states", "_way", "kept",
    )  # fmt: skip

    def __init__(
        self, exchange: Outlet, box: Mailbox[Fact], shape: Shape, pieces: Callable[[int], bytes], stops: tuple[str, ...],
        *, n: int, stream: bool, with_usage: bool, with_logprobs: bool, tokens_in: int, headers: bytes, kept: Kept,
        start: Position | None, opening: bytes,
    ) -> None:  # fmt: skip
        super().__init__(
            exchange, box, shape, pieces, stops, n=n, stream=stream, with_usage=with_usage, with_logprobs=with_logprobs,
            tokens_in=tokens_in, headers=headers,
        )  # fmt: skip
        self.kept = kept
        kept.new_tokens = self._new_tokens
        kept.has_begun = lambda: self._begun
        self._ids = [array("I") for _ in range(n)]
        self._hashes = [START] * n
        self._rested = [False] * n
        self._sent = [0] * n
        self._sent_hashes = [START] * n
        self._states = [OPEN] * n
        self._opened = 0
        self._has_usage = self._is_text = self._denied = False
        self._opening = opening
        self._way: Rejoin | None = None  # to where the client is, while it is not reached
        if start is not None and stream:
            self._begin_at(start, n)

    # -- port Sink

    def token(self, choice: int, token: int, logprobs: TokenLogprobs | None) -> bool:
        if self._denied:
            return False
        self._hashes[choice] = ((self._hashes[choice] ^ token) * PRIME) & MASK
        self._ids[choice].append(token)
        self.kept.came_from()
        way = self._way
        is_complete = super().token(choice, token, logprobs)
        if way is not None:
            if way.is_old(choice, len(self._ids[choice])):
                self._drop(way, choice)
            self._look(way)
        return is_complete and not self._denied

    def finish(self, choice: int, why: Finish) -> None:
        if self._denied:
            return
        rest = self.texts[choice].end()
        self._whys[choice] = why
        if self._states[choice] != OPEN and rest:
            self._shape.skip(choice, rest)  # the client has it
            rest = ""
        self._rested[choice] = True
        if self._waiting is not None:
            self._waiting[choice] += rest
        elif rest:
            self._send(choice, rest)
        self._close(choice)
        if self._way is not None:
            self._look(self._way)

    def text(self, choice: int, text: str, why: Finish) -> None:
        if self._way is not None:
            self._deny(is_forged=False)
        if self._denied:
            return
        self._is_text = True
        super().text(choice, text, why)

    def complete(self) -> None:
        if self._denied:
            return
        super().complete()
        can_be_made_again = not self._is_text and self.logprobs is None
        self.kept.complete(
            KeptTokens(tuple(map(packed, self._ids)), tuple(map(int, self._whys))) if can_be_made_again else None
        )

    def fail(self, status: int, body: bytes, headers: bytes) -> None:
        if not self._denied:
            super().fail(status, body, headers)

    def writable(self) -> None:
        if self._way is None:
            super().writable()

    def _gather(self, choice: int) -> None:
        if self._way is None:  # on the way to the client's position what it has is dropped
            super()._gather(choice)

    # -- events

    def _send(self, choice: int, text: str) -> None:
        if not self._begun:
            self._begin()
        entries: list[dict[str, Any]] | None = None
        if self.logprobs is not None:
            entries, self.logprobs[choice] = self.logprobs[choice], []
        self._sent[choice] = len(self._ids[choice])
        self._sent_hashes[choice] = self._hashes[choice]
        if self._rested[choice]:
            self._states[choice] = RESTED
        if text or entries:
            self._place(self._shape.delta(choice, text, entries))

    def _begin(self) -> None:
        self._begun = True
        self._exchange.begin(200, self._headers + EVENTS)
        for choice in range(self._opened, len(self.texts)):
            self._opened = choice + 1
            self._place(self._shape.open(choice))

    def _close(self, choice: int) -> None:
        if not self._stream:
            return
        if self._waiting is not None:
            self._unclosed.append(choice)
            return
        if self._states[choice] == ENDED:
            return
        if not self._begun:
            self._begin()
        self._sent[choice] = len(self._ids[choice])
        self._sent_hashes[choice] = self._hashes[choice]
        self._states[choice] = ENDED
        self._place(self._shape.close(choice, self._whys[choice]))

    def _end(self) -> None:
        if not self._begun:
            self._begin()
        if self._with_usage and not self._has_usage:
            self._has_usage = True
            self._place(self._shape.usage(self._used()))
        self._exchange.end(self._shape.done)

    def _place(self, event: bytes) -> None:
        if not event:
            return
        opened = self._opened
        where = FROM_TEXT if self._is_text else written(
            self._sent[:opened], self._states[:opened], self._sent_hashes[:opened], has_usage=self._has_usage
        )  # fmt: skip
        opening, self._opening = self._opening, b""
        self._write(opening + self._shape.placed(event, self.kept.call.id, where))

    # -- the way to the client's position

    def _begin_at(self, start: Position, n: int) -> None:
        self._waiting = [""] * n
        self._opened = len(start.counts)
        self._states[: self._opened] = start.states
        self._has_usage = start.has_usage
        assert self._opened <= n, "a position of another call"
        self._way = Rejoin(start)
        self._look(self._way)

    def _drop(self, way: Rejoin, choice: int) -> None:
        """The client has this token's text."""
        if self._waiting is not None:
            self._shape.skip(choice, self._waiting[choice])
            self._waiting[choice] = ""
        if self.logprobs is not None:
            self.logprobs[choice].clear()
        way.passed(choice, self._hashes[choice])

    def _look(self, way: Rejoin) -> None:
        """Whether the position is reached in all choices, and is the client's. Then what came after it leaves."""
        match way.look([len(ids) for ids in self._ids], [why is not Finish.NONE for why in self._whys]):
            case Rejoined.UNDERWAY:
                return
            case Rejoined.ANOTHER:
                self._deny(is_forged=self.kept.is_attached)
                return
            case Rejoined.REACHED:
                self._way = None
        for choice, count in enumerate(way.start.counts):
            self._sent[choice] = count
            self._sent_hashes[choice] = way.hashes[choice]
        self.kept.verdict("resumed")
        self.kept.goes_on()
        if not self._exchange.is_slow:
            self.writable()

    def _deny(self, *, is_forged: bool) -> None:
        """This is not the answer that the client has the beginning of."""
        self._denied = True
        self._way = None
        self._waiting = [""] * len(self.texts)
        self.kept.verdict("unknown" if is_forged else "diverged")
        self._exchange.answer(no_stream() if is_forged else diverged())
        self._box.post(GONE)

    def _new_tokens(self) -> int:
        """Tokens beyond those that were accounted for before."""
        if self._denied:
            return 0
        return new_tokens(sum(self.counts), self.kept.charged)
