"""The JSON object that is one call of a tool: how far it has come, and what it calls when it is whole."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

_OUTSIDE_STRINGS = re.compile(r'["{}\[\]]|[^\s:,0-9a-zA-Z+.\-]')
_IN_STRING = re.compile(r'["\\]')


class Scan:
    """How far a JSON object has come: only braces and strings are looked at."""

    __slots__ = ("_at", "_in_string", "depth")

    def __init__(self) -> None:
        self._at = 0
        self._in_string = False
        self.depth = 0

    def read(self, text: str, until: int) -> int | None:
        """Go on in `text`, of which a part was read before, until `depth` is back at `until`: the place behind that brace; None where it
        does not come. What cannot stand there ends it as well, with −1."""
        at = self._at
        while at < len(text):
            if self._in_string:
                found = _IN_STRING.search(text, at)
                if found is None:
                    at = len(text)
                elif found[0] == "\\":
                    if found.end() == len(text):
                        self._at = found.start()
                        return None
                    at = found.end() + 1
                else:
                    self._in_string, at = False, found.end()
                continue
            found = _OUTSIDE_STRINGS.search(text, at)
            if found is None:
                at = len(text)
                continue
            at = found.end()
            match found[0]:
                case '"':
                    self._in_string = True
                case "{" | "[":
                    self.depth += 1
                case "}" | "]":
                    self.depth -= 1
                    if self.depth <= until:
                        self._at = at
                        return at
                case _:
                    self._at = found.start()
                    return -1
        self._at = at
        return None

    @property
    def at(self) -> int:
        return self._at

    def shift(self, count: int) -> None:
        """So many characters at the front of the text are gone."""
        self._at -= count


def called(text: str, names: Collection[str]) -> tuple[str, str] | None:
    """The name and the arguments of a call that is whole; None: it is none."""
    try:
        call: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(call.get("function"), dict):
        call = call["function"]
    name, arguments = call.get("name"), call.get("arguments", call.get("parameters"))
    if not isinstance(name, str) or name not in names:
        return None
    if arguments is None:
        return name, "{}"
    if isinstance(arguments, dict):
        return name, json.dumps(arguments, ensure_ascii=False)
    if not isinstance(arguments, str):
        return None
    try:
        return (name, arguments) if isinstance(json.loads(arguments), dict) else None
    except (ValueError, RecursionError):
        return None
