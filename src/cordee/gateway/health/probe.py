"""One question to a worker that is out: what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.replica import Continuation
from cordee.policy.canary import Asked, Said, words_of
from cordee.policy.route import Size
from cordee.ports import Running


class Asker(Protocol):
    """Who has asked."""

    def answered(self, probe: Probe, said: Said) -> None: ...

    def broke(self, probe: Probe, cause: str, *, is_fault: bool) -> None:
        """The question came to no answer, which says nothing about what the answer would have been."""
        ...


class Probe:
    """Port Receiver: one question that is out. `number`: what the breaker knows it by, if it is its probe; `steps`: of the engine
    when it was asked."""

    __slots__ = ("_asker", "_said", "asked", "asked_s", "is_late", "number", "running", "size", "steps")

    def __init__(
        self, asker: Asker, asked: Asked, now: float, size: Size, number: int | None, steps: int | None
    ) -> None:
        self._asker: Asker | None = asker
        self._said: list[int] = []
        self.asked = asked
        self.asked_s = now
        self.is_late = False
        self.number = number
        self.running: Running | None = None
        self.size = size
        self.steps = steps

    def cancel(self) -> None:
        self._asker = None
        running, self.running = self.running, None
        if running is not None:
            running.cancel()

    def accepted(self) -> None: ...

    def token(self, choice: int, index: int, token: int, logprobs: TokenLogprobs | None) -> None:
        self._said.append(token)

    def finish(self, choice: int, index: int, why: Finish) -> None:
        if self._asker is None:
            return
        if why in (Finish.STOP, Finish.LENGTH):
            self._asker.answered(self, tuple(self._said))
        else:
            self._asker.broke(self, why.name.lower(), is_fault=why is Finish.FAILED)

    def broken(self, cause: str, *, ran: bool, fault: bool = False, crash: int = 0) -> None:
        if self._asker is not None:
            self._asker.broke(self, cause, is_fault=True)

    def busy(self, retry_after_s: float | None) -> None:
        if self._asker is not None:
            self._asker.broke(self, "busy", is_fault=False)

    # Workers speak tokens: the rest of a receiver is never called.

    def text(self, choice: int, text: str, why: Finish = Finish.NONE) -> None: ...

    def usage(self, tokens_in: int, tokens_out: int) -> None: ...

    def continued(self, way: Continuation) -> None: ...

    def cached(self, tokens: int) -> None: ...

    def result(self, choice: int, data: bytes) -> None:
        self._said = list(words_of(data))

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None: ...

    def body(self, data: bytes) -> None: ...

    def complete(self) -> None: ...
