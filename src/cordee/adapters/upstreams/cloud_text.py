"""A provider's answer to a call of one of our own models: its text goes into the format the client asked for.

The ends of the choices are held back until the provider has said [DONE] and what it counted: an answer is whole or broken.
"""

from __future__ import annotations

from collections.abc import Sequence

from cordee.adapters.upstreams.events import Broken, Event, Lines, Usage, decode
from cordee.domain.chunk import Finish
from cordee.ports import Receiver

WHYS = {"stop": Finish.STOP, "length": Finish.LENGTH, "eos": Finish.STOP, "end_turn": Finish.STOP}
FILTERED = "content_filter"


class CloudText:
    """http.client.Receiver of one attempt. `mark`: the header that says who answered. `choices`: how many there must be."""

    __slots__ = (
        "_choices",
        "_is_marked",
        "_is_over",
        "_lines",
        "_mark",
        "_receiver",
        "_stream",
        "_usage",
        "_whole",
        "_whys",
    )

    def __init__(self, receiver: Receiver, mark: tuple[bytes, bytes], choices: int, *, stream: bool) -> None:
        self._receiver = receiver
        self._mark = mark
        self._choices = choices
        self._stream = stream
        self._lines = Lines()
        self._whole = bytearray()
        self._whys: dict[int, Finish] = {}
        self._usage: Usage | None = None
        self._is_marked = self._is_over = False

    def head(self, status: int, headers: Sequence[tuple[bytes, bytes]]) -> None: ...

    def body(self, data: bytes) -> None:
        if self._is_over:
            return
        if not self._stream:
            self._whole += data
            return
        try:
            for payload in self._lines.feed(data):
                self._take(decode(payload))
        except Broken as broken:
            self._break(broken)

    def complete(self) -> None:
        if self._is_over:
            return
        try:
            if self._stream:
                self._lines.end()
                if not self._lines.is_done:
                    raise Broken("its stream ended without [DONE]")
            else:
                self._take(decode(bytes(self._whole)))
            if len(self._whys) < self._choices:
                raise Broken("it ended without a finish_reason")
        except Broken as broken:
            self._break(broken)
            return
        self._is_over = True
        if self._usage is not None:
            self._receiver.usage(self._usage.prompt_tokens, self._usage.completion_tokens)
        for choice, why in self._whys.items():
            self._receiver.text(choice, "", why)

    def closed(self) -> None:
        self.complete()

    def broken(self, cause: str, *, ran: bool) -> None:
        if not self._is_over:
            self._is_over = True
            self._receiver.broken(cause, ran=ran)

    def _take(self, event: Event) -> None:
        if event.usage is not None:
            self._usage = event.usage
        for choice in event.choices:
            if not 0 <= choice.index < self._choices:
                raise Broken(f"it answered with a choice number {choice.index} that nobody asked for")
            if choice.content:
                if not self._is_marked:
                    self._is_marked = True
                    self._receiver.head(200, [self._mark])
                self._receiver.text(choice.index, choice.content)
            if choice.finish_reason == FILTERED:
                self._is_over = True
                self._receiver.broken("the provider's content filter ended the answer", ran=True, fault=True)
                return
            if choice.finish_reason is not None:
                self._whys[choice.index] = WHYS.get(choice.finish_reason, Finish.STOP)

    def _break(self, broken: Broken) -> None:
        self._is_over = True
        error = broken.error
        self._receiver.broken(str(broken), ran=True, fault=error is not None and error.is_clients)
