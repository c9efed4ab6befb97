"""What a model thinks before it answers, told apart from its answer.

A model that reasons writes its thoughts between two marks at the beginning of its answer; with some the template has written the first
mark already. Thoughts that never end are all there is.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from cordee.domain.record import record
from cordee.wire.text import Text, possible_start

_SPACE = " \t\r\n"


@record
class Marks:
    """Around the thoughts of a model."""

    start: str
    end: str


THINK = Marks("<think>", "</think>")
KNOWN = (
    THINK, Marks("[THINK]", "[/THINK]"), Marks("<|START_THINKING|>", "<|END_THINKING|>"), Marks("<seed:think>", "</seed:think>"),
    Marks("<thought>", "</thought>"),
)  # fmt: skip


def marks_of(template: str) -> Marks | None:
    """Those in the source of a chat template; None: a model of it does not reason, or does not say so."""
    return next((marks for marks in KNOWN if marks.end in template), None)


class _Where(Enum):
    BEFORE = auto()  # nothing but blanks, or a part of the first mark
    INSIDE = auto()
    BEHIND = auto()  # behind the last mark, before the answer
    ANSWER = auto()


class Splitter:
    """One choice. `thought` takes reasoning, `said` the answer; blanks around both are dropped. `is_opened`: the first mark stands in the
    prompt."""

    __slots__ = ("_buffer", "_is_blank", "_marks", "_said", "_thought", "_where")

    def __init__(
        self, marks: Marks, thought: Callable[[str], None], said: Callable[[str], None], *, is_opened: bool
    ) -> None:
        self._marks = marks
        self._thought = thought
        self._said = said
        self._buffer = ""
        self._is_blank = True  # no reasoning has come
        self._where = _Where.INSIDE if is_opened else _Where.BEFORE

    @property
    def is_over(self) -> bool:
        """What comes is the answer."""
        return self._where in (_Where.BEHIND, _Where.ANSWER)

    @property
    def has_thought(self) -> bool:
        """There was reasoning, or there is."""
        return self._where is _Where.INSIDE or not self._is_blank

    def push(self, text: str) -> None:
        if self._where is _Where.ANSWER:
            self._said(text)
            return
        self._buffer += text
        if self._where is _Where.BEFORE:
            self._begin()
        if self._where is _Where.INSIDE:
            self._think()
        if self._where is _Where.BEHIND:
            rest = self._buffer.lstrip(_SPACE)
            self._buffer = ""
            if rest:
                self._where = _Where.ANSWER
                self._said(rest)

    def end(self) -> None:
        """Nothing more comes."""
        held, self._buffer = self._buffer, ""
        if self._where is _Where.BEFORE and held:
            self._said(held)
        elif self._where is _Where.INSIDE and held.strip(_SPACE):
            self._thought(held.rstrip(_SPACE))

    def _begin(self) -> None:
        bare, start = self._buffer.lstrip(_SPACE), self._marks.start
        if bare.startswith(start):
            self._buffer, self._where = bare[len(start) :], _Where.INSIDE
        elif not start.startswith(bare):
            self._where, text, self._buffer = _Where.ANSWER, self._buffer, ""
            self._said(text)

    def _think(self) -> None:
        if self._is_blank:
            self._buffer = self._buffer.lstrip(_SPACE)
        at = self._buffer.find(self._marks.end)
        if at >= 0:
            thoughts, self._buffer = self._buffer[:at], self._buffer[at + len(self._marks.end) :]
            self._where = _Where.BEHIND
        else:
            keep = possible_start(self._buffer, self._marks.end)
            thoughts = self._buffer[: len(self._buffer) - keep]
        thoughts = thoughts.rstrip(_SPACE)
        if at < 0:
            self._buffer = self._buffer[len(thoughts) :]
        if thoughts:
            self._is_blank = False
            self._thought(thoughts)


class CountedText(Text):
    """The text of one choice, with the number of its tokens that were thoughts, their marks included."""

    __slots__ = ("_is_decided", "_splitter", "_tokens")

    def __init__(self, piece: Callable[[int], bytes], stops: tuple[str, ...], marks: Marks, *, is_opened: bool) -> None:
        super().__init__(piece, stops)
        self._splitter = Splitter(marks, _ignore, _ignore, is_opened=is_opened)
        self._tokens = 0

    @property
    def thoughts(self) -> int:
        return self._tokens if self._splitter.has_thought else 0

    def push(self, token: int) -> str:
        text = super().push(token)
        if not self._splitter.is_over:
            self._tokens += 1
            self._splitter.push(text)
        return text


def _ignore(text: str) -> None:
    pass
