"""A receiver that keeps what it gets."""

from __future__ import annotations

from collections.abc import Sequence

from cordee.domain.chunk import Finish, TokenLogprobs
from cordee.domain.replica import Continuation


class Recorder:
    """Port Receiver. `end` is "", "complete", "broken" or "busy"; anything after an end fails."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.pieces: list[bytes] = []
        self.texts: dict[int, str] = {}
        self.whys: dict[int, Finish] = {}
        self.used = (0, 0)
        self.end = ""
        self.cause = ""
        self.ran = self.fault = False
        self.retry_after_s: float | None = None
        self.way: Continuation | None = None  # of going on with what has left

    def accepted(self) -> None: ...

    def token(self, choice: int, index: int, token: int, logprobs: TokenLogprobs | None) -> None:
        raise AssertionError("a server speaks text")

    def finish(self, choice: int, index: int, why: Finish) -> None:
        raise AssertionError("a server speaks text")

    def text(self, choice: int, text: str, why: Finish = Finish.NONE) -> None:
        assert choice not in self.whys, "text after the end of its choice"
        self.texts[choice] = self.texts.get(choice, "") + text
        if why is not Finish.NONE:
            self.whys[choice] = why

    def continued(self, way: Continuation) -> None:
        assert self.way is None, "an attempt goes on in one way"
        self.way = way

    def cached(self, tokens: int) -> None: ...

    def result(self, choice: int, data: bytes) -> None: ...

    def usage(self, tokens_in: int, tokens_out: int) -> None:
        assert not self.whys, "usage comes before the ends"
        self.used = (tokens_in, tokens_out)

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = dict(headers)

    def body(self, data: bytes) -> None:
        assert not self.end, "a body after the end"
        assert data, "an empty piece"
        self.pieces.append(data)

    def complete(self) -> None:
        self._ends("complete")

    def broken(self, cause: str, *, ran: bool, fault: bool = False, crash: int = 0) -> None:
        self.cause, self.ran, self.fault = cause, ran, fault
        self._ends("broken")

    def busy(self, retry_after_s: float | None) -> None:
        self.retry_after_s = retry_after_s
        self._ends("busy")

    def _ends(self, how: str) -> None:
        assert not self.end, f"{how} after {self.end}"
        self.end = how
