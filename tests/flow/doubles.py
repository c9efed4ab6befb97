"""Stand-ins for time and for the client's side of an answer."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from cordee.domain.call import Call, Deadlines, Work
from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.flow.answer import Answer, Counts
from cordee.flow.facts import Fact
from cordee.flow.mailbox import Mailbox


class Timer:
    def cancel(self) -> None: ...


class Clock:
    """Time passes when somebody sets it."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def call_later(self, delay_s: float, what: Callable[[], None]) -> Timer:
        return Timer()


class Sink:
    """Keeps what a client would get. A choice is complete when it has seen `stop_at`."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.tokens: dict[int, list[int]] = {}
        self.logprobs: list[TokenLogprobs | None] = []
        self.finished: dict[int, Finish] = {}
        self.texts: dict[int, str] = {}
        self.used = (0, 0)
        self.bytes = b""
        self.status = 0
        self._stop_at = stop_at

    def token(self, choice: int, token: int, logprobs: TokenLogprobs | None) -> bool:
        assert choice not in self.finished, "a token after the end"
        self.tokens.setdefault(choice, []).append(token)
        self.logprobs.append(logprobs)
        return token == self._stop_at

    def finish(self, choice: int, why: Finish) -> None:
        assert choice not in self.finished, "two ends"
        self.finished[choice] = why

    def text(self, choice: int, text: str, why: Finish) -> None:
        self.texts[choice] = self.texts.get(choice, "") + text
        if why is not Finish.NONE:
            self.finish(choice, why)

    def cached(self, tokens: int) -> None: ...

    def result(self, choice: int, data: bytes) -> None: ...

    def usage(self, tokens_in: int, tokens_out: int) -> None:
        self.used = (tokens_in, tokens_out)

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.status = status

    def body(self, data: bytes) -> bool:
        self.bytes += data
        return True

    def complete(self) -> None: ...


class Running:
    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1

    def detach(self) -> None:
        self.cancel()


class Stage:
    """An answer of `n` choices, and every fact that its call was told."""

    def __init__(self, n: int = 1, stop_at: int | None = None, deadlines: Deadlines | None = None) -> None:
        self.clock = Clock()
        self.sink = Sink(stop_at)
        self.facts: list[Fact] = []
        self.takeovers: list[tuple[str, float, float]] = []
        self.counts = Counts(lambda id, took_s, at_s: self.takeovers.append((id, took_s, at_s)))
        box: Mailbox[Fact] = Mailbox()
        call = Call(
            "c", "m", "t", "/v1/completions", True, arrived_s=self.clock.time, deadlines=deadlines or Deadlines(),
            work=Work(array("I", [1, 2]), max_tokens=100, n=n),
        )  # fmt: skip
        self.answer = Answer(call, self.sink, box, self.clock, self.counts)

        async def listen() -> None:
            while True:
                self.facts.append(await box.next())

        box.run(listen())
