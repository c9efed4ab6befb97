"""On which line of a configuration file a key stands. Parsers throw positions away; a person needs them back.

This is a search, not a second parser: it runs only after the real parser has understood the text and only to word an
error, so where a file is written in a way it does not follow, it answers with the table's line or with none.
"""

from __future__ import annotations

import re

_PART = r"(?:[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*')"
_PATH = rf"{_PART}(?:\s*\.\s*{_PART})*"
_TABLE = re.compile(rf"^\s*\[\[?\s*({_PATH})\s*\]")
_ASSIGNMENT = re.compile(rf"^\s*({_PATH})\s*=(.*)$")
_SPLIT = re.compile(_PART)


def line_in_toml(text: str, key: str) -> int | None:
    """The number (from 1) of the line that sets the dotted `key`, else of its table, else None."""
    table, fallback = "", None
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _TABLE.match(line):
            table = _dotted(header[1])
            if table == key:
                return number
            if fallback is None and key.startswith(table + "."):
                fallback = number
        elif assignment := _ASSIGNMENT.match(line):
            written = ".".join(filter(None, (table, _dotted(assignment[1]))))
            inline = key.startswith(written + ".") and _names(assignment[2], key[len(written) + 1 :])
            if written == key or inline or written.startswith(key + "."):
                return number
    return fallback


def line_in_json(text: str, key: str) -> int | None:
    """The number (from 1) of the line where the last name of the dotted `key` follows its parents, else None."""
    at = 0
    for name in key.split("."):
        found = re.compile(rf'"{re.escape(name)}"\s*:').search(text, at)
        if found is None:
            break
        at = found.end()
    return text.count("\n", 0, at) + 1 if at else None


def _dotted(path: str) -> str:
    return ".".join(part.strip("\"'") for part in _SPLIT.findall(path))


def _names(inline_table: str, name: str) -> bool:
    return re.search(rf"[{{,]\s*[\"']?{re.escape(name)}[\"']?\s*[=.]", inline_table) is not None
