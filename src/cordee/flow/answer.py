"""The answer of one call while it comes in: what was emitted so far (its journal), under which attempt, and when.

Every token passes here once: it is accepted if its attempt is the current one and its index is the next one, appended to
the journal, and pushed on to the client's side. Anything else is counted and dropped; that is what makes "no token missing
and none twice" true whatever the workers do.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from cordee.domain.call import Call
from cordee.domain.caller import Caller
from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.replica import Continuation
from cordee.flow.facts import DONE, Broken, Expired, Fact
from cordee.flow.mailbox import Mailbox
from cordee.flow.trip import Trip
from cordee.policy.after import Ended
from cordee.ports import Clock, Running

NONE: frozenset[int] = frozenset()


class Sink(Protocol):
    """The client's side of an answer. Pushes are synchronous and never block; a slow client is the sink's business."""

    def token(self, choice: int, token: int, logprobs: TokenLogprobs | None) -> bool:
        """One more token of a choice. True: the choice is complete (a stop string was found)."""
        ...

    def finish(self, choice: int, why: Finish) -> None:
        """The choice is complete."""
        ...

    def text(self, choice: int, text: str, why: Finish) -> None:
        """More of a choice as text, and its end unless `why` is NONE: from a replica that does not send tokens."""
        ...

    def usage(self, tokens_in: int, tokens_out: int) -> None:
        """How many tokens such a replica counted."""
        ...

    def cached(self, tokens: int) -> None:
        """So many tokens of the prompt were found computed."""
        ...

    def result(self, choice: int, data: bytes) -> None:
        """What was computed for an item of a task; its `finish` follows."""
        ...

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None: ...

    def body(self, data: bytes) -> bool:
        """Bytes of a forwarded answer. True: some have left for the client."""
        ...

    def complete(self) -> None:
        """The answer is whole: write its end."""
        ...


class OnFirst(Protocol):
    """Who waits for the first token of a call."""

    def came(self) -> None:
        """It is here; the attempt that gave it is the one that goes on."""
        ...

    def too_late(self) -> None:
        """It will not come: the attempts of now are over."""
        ...


class Counts:
    """What is counted over all calls of a process: tokens not delivered, and takeovers (`takeover` hears the call's id, how
    long it took from the fault being seen to another replica's acceptance, and when that was)."""

    __slots__ = ("late", "repeated", "takeover")

    def __init__(self, takeover: Callable[[str, float, float], None] = lambda id, took_s, at_s: None) -> None:
        self.late = 0
        self.repeated = 0
        self.takeover = takeover


class Answer:
    """The journal of one call and the way of its tokens. `outputs[i]` are the ids of choice i emitted so far."""

    __slots__ = (
        "_counts", "_open", "attempt", "box", "broken_s", "cached", "call", "caller", "clock", "done", "first_s", "last_s", "on_first",
        "outputs", "running", "sent", "sent_bytes_left", "sink", "slot", "started", "trip",
    )  # fmt: skip

    def __init__(self, call: Call, sink: Sink, box: Mailbox[Fact], clock: Clock, counts: Counts) -> None:
        n = call.sequences
        self.call = call
        self.caller: Caller | None = None  # whose call ends when they go
        self.sink = sink
        self.box = box
        self.clock = clock
        self.outputs: tuple[array[int], ...] = tuple(array("I") for _ in range(n)) if call.work is not None else ()
        self.done = NONE  # choices that are complete
        self.attempt = 0
        self.broken_s: float | None = None  # when the attempt before this one was seen to break
        self.running: Running | None = None
        self.started = False
        self.sent: list[bytes] | None = None  # kept where a replica of the pool could go on from it, up to a limit
        self.sent_bytes_left = 0
        self.trip: Trip | None = None  # where it is, once it looks for a seat
        self.slot = 0  # of the wheel that watches the deadlines
        self.first_s: float | None = None
        self.on_first: OnFirst | None = None  # who wants to know of the first token, if anybody
        self.last_s = call.arrived_s
        self.cached = 0  # tokens of the prompt that were not computed again
        self._open = n
        self._counts = counts

    @property
    def tokens(self) -> int:
        return sum(map(len, self.outputs))

    @property
    def whole(self) -> bool:
        return self._open == 0

    def began(self) -> Attempt:
        """The next attempt; all earlier ones are deaf from now on."""
        self.attempt += 1
        return Attempt(self, self.attempt)

    def keep_sent(self, bytes_max: int) -> None:
        """From now on remember what leaves for the client as bytes or text, so that another replica can go on from it."""
        self.sent = []
        self.sent_bytes_left = bytes_max

    def stop(self) -> None:
        """Whatever runs is cancelled, and nothing of it is heard any more."""
        self.attempt += 1
        if self.on_first is not None:
            self.on_first.too_late()
        if self.running is not None:
            self.running.cancel()
            self.running = None

    def leave(self) -> None:
        """Nothing is heard any more, but what runs goes on for whoever comes back for the answer."""
        self.attempt += 1
        if self.on_first is not None:
            self.on_first.too_late()
        if self.running is not None:
            self.running.detach()
            self.running = None

    def overdue(self, now: float) -> Expired | float:
        """The deadline that has passed, or when to look again."""
        limits = self.call.deadlines
        total = self.call.arrived_s + limits.total_s
        if now >= total:
            return Expired(f"the whole answer was not there within {limits.total_s:g} s")
        if self.first_s is None:
            first = self.call.arrived_s + limits.first_token_s
            if now >= first:
                return Expired(f"the first token was not there within {limits.first_token_s:g} s")
            return min(total, first)
        between = self.last_s + limits.between_tokens_s
        if now >= between:
            return Expired(f"no token came for {limits.between_tokens_s:g} s")
        return min(total, between)

    def _progress(self) -> None:
        self.last_s = now = self.clock.now()
        if self.first_s is None:
            self._first(now)

    def _first(self, now: float) -> None:
        self.first_s = now
        if self.on_first is not None:
            self.on_first.came()

    def _token(self, choice: int, index: int, token: int, logprobs: TokenLogprobs | None) -> None:
        if choice in self.done:
            return
        output = self.outputs[choice]
        if index != len(output):
            if index < len(output):
                self._counts.repeated += 1
                return
            self._break(f"token {index} came after token {len(output) - 1}: some are missing")
            return
        output.append(token)
        self._progress()
        self.started = True
        if self.sink.token(choice, token, logprobs):
            self._close(choice)

    def _finish(self, choice: int, index: int, why: Finish) -> None:
        if choice in self.done:
            return
        if index != len(self.outputs[choice]):
            self._break(f"the answer ended at {index} tokens, but {len(self.outputs[choice])} were received")
        elif why in (Finish.STOP, Finish.LENGTH):
            self._progress()
            self.sink.finish(choice, why)
            self._close(choice)
        elif why is Finish.EXPIRED:
            # A worker counts down what was left when it was asked, and may be through a moment before this clock is.
            passed = self.overdue(self.clock.now())
            limit = f"the whole answer was not there within {self.call.deadlines.total_s:g} s"
            self.box.post(passed if isinstance(passed, Expired) else Expired(limit))
        else:
            self._break("the worker could not go on with this answer" if why is Finish.FAILED else "the worker gave up")

    def _text(self, choice: int, text: str, why: Finish) -> None:
        if choice in self.done:
            return
        self._progress()
        self.started = True
        if self.sent is not None:
            self._sent(text.encode())
        self.sink.text(choice, text, why)
        if why is not Finish.NONE:
            self._close(choice)

    def _sent(self, data: bytes) -> None:
        """One piece more. Beyond the limit nothing is kept at all, as half a journal would be gone on from as if it were whole;
        nor is it of several choices, which nobody can go on with."""
        self.sent_bytes_left -= len(data)
        if self.sent is None or self.sent_bytes_left < 0 or self.call.sequences > 1:
            self.sent = None
        elif data:
            self.sent.append(data)

    def _close(self, choice: int) -> None:
        self.done |= {choice}
        self._open -= 1
        if self._open == 0:
            self.box.post(DONE)

    def _break(self, cause: str) -> None:
        self.box.post(Broken(self.attempt, Ended(cause)))


class Attempt:
    """Port Receiver for one attempt: lets through what belongs to the current one."""

    __slots__ = ("_answer", "_number")

    def __init__(self, answer: Answer, number: int) -> None:
        self._answer = answer
        self._number = number

    def accepted(self) -> None:
        answer = self._answer
        if answer.broken_s is not None and answer.attempt == self._number:
            now = answer.clock.now()
            answer._counts.takeover(answer.call.id, now - answer.broken_s, now)
            answer.broken_s = None

    def token(self, choice: int, index: int, token: int, logprobs: TokenLogprobs | None) -> None:
        if self._answer.attempt == self._number:
            self._answer._token(choice, index, token, logprobs)
        else:
            self._answer._counts.late += 1

    def finish(self, choice: int, index: int, why: Finish) -> None:
        if self._answer.attempt == self._number:
            self._answer._finish(choice, index, why)

    def text(self, choice: int, text: str, why: Finish = Finish.NONE) -> None:
        if self._answer.attempt == self._number:
            self._answer._text(choice, text, why)

    def usage(self, tokens_in: int, tokens_out: int) -> None:
        if self._answer.attempt == self._number:
            self._answer.sink.usage(tokens_in, tokens_out)

    def continued(self, way: Continuation) -> None:
        answer = self._answer
        if answer.attempt == self._number and answer.trip is not None:
            answer.trip.goes_on(way)

    def cached(self, tokens: int) -> None:
        answer = self._answer
        if answer.attempt == self._number:
            answer.cached = tokens
            answer.sink.cached(tokens)

    def result(self, choice: int, data: bytes) -> None:
        answer = self._answer
        if answer.attempt == self._number and choice not in answer.done:
            answer._progress()
            answer.started = True  # what is left is asked of replicas that compute the same
            answer.sink.result(choice, data)

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        if self._answer.attempt == self._number:
            self._answer.sink.head(status, headers)

    def body(self, data: bytes) -> None:
        answer = self._answer
        if answer.attempt == self._number:
            answer.last_s = now = answer.clock.now()
            if answer.first_s is None:
                answer.first_s = now
                if answer.on_first is not None:
                    answer.on_first.came()
            if answer.sink.body(data):
                answer.started = True
                if answer.sent is not None:
                    answer._sent(data)

    def complete(self) -> None:
        answer = self._answer
        if answer.attempt == self._number:
            answer._progress()
            answer._open = 0
            answer.box.post(DONE)

    def broken(self, cause: str, *, ran: bool, fault: bool = False, crash: int = 0) -> None:
        if self._answer.attempt == self._number:
            self._answer.box.post(Broken(self._number, Ended(cause, ran=ran, fault=fault, crash=crash)))

    def busy(self, retry_after_s: float | None) -> None:
        if self._answer.attempt == self._number:
            self._answer.box.post(Broken(self._number, Ended("busy", busy=True, ran=False), retry_after_s))
