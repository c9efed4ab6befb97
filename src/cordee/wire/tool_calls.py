"""Calls of tools in the text of an answer, found while it is written.

A call goes out as its text comes in: first its name, then its arguments piece by piece, exactly as the model wrote them. What might be
the beginning of a mark is held back until it is known. What looked like a call and is none (another shape, a tool that was not
offered, an answer that ends in the middle before any of it left) is content, every character of it: nothing that a model said is lost.
What comes out does not depend on how the text was cut into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from enum import Enum, auto

from cordee.wire.text import possible_start
from cordee.wire.tool_families import Family
from cordee.wire.tool_json import Scan, called

NAME = r"[a-zA-Z0-9_.-]{1,64}"
KEYS = frozenset({"name", "arguments", "parameters", "type", "function", "id"})  # that the first key of a call may be
_SPACE = " \t\r\n"
_HEAD = re.compile(rf'\{{\s*"name"\s*:\s*"(?P<name>{NAME})"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{{)')
_FIRST_KEY = re.compile(r'\{\s*(?:"(?P<key>[^"\\]*)"|(?P<other>[^\s"]))')
_NAMED = re.compile(r'\{\s*"name"\s*:\s*"(?P<name>[^"\\]*)"')


class _Where(Enum):
    TEXT = auto()  # before a call, or between two
    PLAIN = auto()  # what comes is content to the end
    OPENED = auto()  # behind a mark, before the call's first brace
    WHOLE = auto()  # in a call, of which nothing has left
    ARGUMENTS = auto()  # in its arguments, which leave as they come
    TAIL = auto()  # behind its arguments, before its last brace
    ENDED = auto()  # behind its last brace, before the mark of its end


class CallParser:
    """One choice. `content` takes text, `began` the name of a call, `argued` more of its arguments. `names`: the tools that were offered.
    At most `calls_max` calls come out; text behind the last one is dropped. `is_opened`: the mark of the first call stands in the
    prompt."""

    __slots__ = (
        "_argued", "_began", "_buffer", "_calls_max", "_family", "_is_fresh", "_json", "_list_depth", "_names", "_raw", "_say",
        "_where", "calls",
    )  # fmt: skip

    def __init__(
        self, family: Family, names: Collection[str], content: Callable[[str], None], began: Callable[[str], None],
        argued: Callable[[str], None], *, calls_max: int, is_opened: bool = False,
    ) -> None:  # fmt: skip
        self._family = family
        self._names = names
        self._say = content
        self._began = began
        self._argued = argued
        self._calls_max = calls_max
        self.calls = 0
        self._is_fresh = False  # nothing was said since the last call
        self._buffer = ""  # what has not left yet
        self._raw = ""  # what stood in front of it and is content if this is no call
        self._json = Scan()
        self._list_depth = 0
        self._where = _Where.OPENED if is_opened else _Where.TEXT

    def push(self, text: str) -> None:
        self._buffer += text
        while self._step():
            pass

    def end(self) -> None:
        """Nothing more comes."""
        held, self._buffer = self._raw + self._buffer, ""
        self._raw = ""
        if self._where in (_Where.ARGUMENTS, _Where.TAIL, _Where.ENDED) or self.calls >= self._calls_max:
            return
        if held and not (self._is_fresh and not held.strip(_SPACE)):
            self._content(held)

    def _step(self) -> bool:
        """One step; False: more text is needed."""
        if not self._buffer:
            return False
        match self._where:
            case _Where.TEXT:
                return self._text() if self._family.start else self._bare()
            case _Where.PLAIN:
                self._content(self._buffer)
                self._buffer = ""
                return False
            case _Where.OPENED:
                return self._opened()
            case _Where.WHOLE:
                return self._whole()
            case _Where.ARGUMENTS:
                return self._arguments()
            case _Where.TAIL:
                return self._tail()
            case _Where.ENDED:
                return self._ended()

    # -- outside of calls

    def _text(self) -> bool:
        """Content up to the next mark."""
        family, text = self._family, self._buffer
        if self._is_fresh:
            text = text.lstrip(_SPACE)
        if self.calls >= self._calls_max:
            self._buffer = ""
            return False
        at = text.find(family.start)
        if at >= 0:
            before = text[:at].rstrip(_SPACE)
            if before:
                self._content(before)
            self._raw = text[len(before) : at + len(family.start)]
            self._buffer = text[at + len(family.start) :]
            self._where, self._list_depth = _Where.OPENED, 0
            return True
        sure = text[: len(text) - possible_start(text, family.start)].rstrip(_SPACE)
        if sure:
            self._content(sure)
        self._buffer = text[len(sure) :]
        return False

    def _bare(self) -> bool:
        """JSON without a mark: the answer is calls from its first character on, or is content."""
        family, text = self._family, self._buffer
        if self.calls >= self._calls_max:
            self._buffer = ""
            return False
        bare = text.lstrip(_SPACE + ";,]" if self.calls else _SPACE)
        if not bare or (family.tag and len(bare) < len(family.tag) and family.tag.startswith(bare)):
            return False
        if family.tag and bare.startswith(family.tag):
            bare = bare[len(family.tag) :]
            self._raw, self._buffer, self._where = text[: len(text) - len(bare)], bare, _Where.OPENED
            return True
        if bare[0] in ("{", "[") and not (bare[0] == "[" and self.calls):
            self._raw, self._buffer, self._where = text[: len(text) - len(bare)], bare, _Where.OPENED
            return True
        if self.calls:
            self._buffer = bare
        self._where = _Where.PLAIN
        return True

    # -- in a call

    def _opened(self) -> bool:
        text = self._buffer
        bare = text.lstrip(_SPACE)
        if not bare:
            return False
        if bare[0] == "[" and self._list_depth == 0 and (self._family.is_list or not self._family.start):
            self._list_depth = 1
            bare = bare[1:]
            self._raw, self._buffer = self._raw + text[: len(text) - len(bare)], bare
            return True
        if bare[0] != "{":
            return self._is_none()
        self._raw, self._buffer = self._raw + text[: len(text) - len(bare)], bare
        self._where, self._json = _Where.WHOLE, Scan()
        return True

    def _whole(self) -> bool:
        """In a call whose name and arguments are not both known."""
        text = self._buffer
        head = _HEAD.match(text)
        if head is not None:
            if head["name"] not in self._names:
                return self._is_none()
            self._begin(head["name"])
            self._buffer, self._where, self._json = text[head.end() :], _Where.ARGUMENTS, Scan()
            return True
        first, named = _FIRST_KEY.match(text), _NAMED.match(text)
        if first is not None and (first["other"] is not None or first["key"] not in KEYS):
            return self._is_none()
        if named is not None and named["name"] not in self._names:
            return self._is_none()
        end = self._json.read(text, 0)
        if end is None:
            return False
        found = called(text[:end], self._names) if end > 0 else None
        if found is None:
            return self._is_none()
        name, arguments = found
        self._begin(name)
        self._argued(arguments)
        self._buffer, self._where = text[end:], _Where.ENDED
        return True

    def _arguments(self) -> bool:
        text = self._buffer
        end = self._json.read(text, 0)
        stop = len(text) if end is None else end if end >= 0 else self._json.at
        if end is None and self._json.at < stop:
            stop = self._json.at  # half an escape
        if stop:
            self._argued(text[:stop])
        self._buffer = text[stop:]
        if end is None:
            self._json.shift(stop)
            return False
        self._where, self._json = (_Where.TAIL if end >= 0 else _Where.ENDED), Scan()
        self._json.depth = 1
        return True

    def _tail(self) -> bool:
        """The rest of the call's own object, of which nothing is needed."""
        end = self._json.read(self._buffer, 0)
        if end is None:
            return False
        self._buffer = self._buffer[end if end > 0 else self._json.at :]
        self._where = _Where.ENDED
        return True

    def _ended(self) -> bool:
        family, text = self._family, self._buffer.lstrip(_SPACE)
        self._buffer = text
        if not text:
            return False
        if self._list_depth:
            if text[0] == ",":
                rest = text[1:].lstrip(_SPACE)
                if not rest:
                    return False
                if rest[0] == "{" and self.calls < self._calls_max:
                    self._raw, self._buffer, self._where = "", rest, _Where.OPENED
                    return True
            if text[0] == "]":
                text = text[1:]
        elif family.end:
            if len(text) < len(family.end) and family.end.startswith(text):
                return False
            text = text.removeprefix(family.end)
        self._buffer, self._where, self._list_depth = text, _Where.TEXT, 0
        return True

    def _content(self, text: str) -> None:
        self._is_fresh = False
        self._say(text)

    def _begin(self, name: str) -> None:
        self.calls += 1
        self._is_fresh = True
        self._raw = ""
        self._began(name)

    def _is_none(self) -> bool:
        """This is no call: what is held is content, and a mark further on may still begin one."""
        raw, self._raw = self._raw, ""
        if self._family.start:
            if raw:
                self._content(raw)
            self._where = _Where.TEXT
        else:
            self._buffer, self._where = raw + self._buffer, _Where.PLAIN
        self._list_depth = 0
        return True
