"""Token ids to the text a client may see: half a UTF-8 character is held back until it is whole, and whatever might be the
beginning of a stop string until it is known not to be one."""

from __future__ import annotations

import codecs
from collections.abc import Callable

_decoder = codecs.getincrementaldecoder("utf-8")


class Text:
    """The text of one choice. `piece` gives the bytes of a token."""

    __slots__ = ("_decode", "_held", "_hold_max", "_piece", "_stops", "is_stopped", "offset")

    def __init__(self, piece: Callable[[int], bytes], stops: tuple[str, ...]) -> None:
        self._piece = piece
        self._decode = _decoder("replace").decode
        self._stops = stops
        self._hold_max = max(map(len, stops), default=0) - 1
        self._held = ""
        self.is_stopped = False
        self.offset = 0

    def push(self, token: int) -> str:
        """The text that this token makes certain; sets `is_stopped` when a stop string is complete (it and all after it
        are not part of the text)."""
        text = self._decode(self._piece(token))
        if not self._stops:
            return text
        if not text:
            return ""
        held = self._held + text
        first, end = -1, len(held) + 1
        for stop in self._stops:  # the one complete first, however the text was cut into tokens; of those, the longest
            at = held.find(stop)
            if at >= 0 and (at + len(stop) < end or (at + len(stop) == end and at < first)):
                first, end = at, at + len(stop)
        if first >= 0:
            self.is_stopped, self._held = True, ""
            return held[:first]
        keep = self._possible_start(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def end(self) -> str:
        """What was held back, when nothing more comes. Half a character becomes U+FFFD."""
        rest, self._held = self._held + self._decode(b"", True), ""
        for stop in self._stops:
            at = rest.find(stop)
            if at >= 0:
                rest = rest[:at]
        return rest

    def _possible_start(self, held: str) -> int:
        """How many characters at the end might be the beginning of a stop string."""
        for size in range(min(self._hold_max, len(held)), 0, -1):
            tail = held[len(held) - size :]
            if any(stop.startswith(tail) for stop in self._stops):
                return size
        return 0


def possible_start(text: str, mark: str) -> int:
    """How many characters at the end of `text` might be the beginning of `mark`."""
    for size in range(min(len(mark) - 1, len(text)), 0, -1):
        if mark.startswith(text[len(text) - size :]):
            return size
    return 0
