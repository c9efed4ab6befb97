"""Log lines of a process: one event a line on standard error, level and place first."""

from __future__ import annotations

import logging
import sys

_INDENT = "\n    "


class _OneLine(logging.Formatter):
    """What comes from outside cannot begin a new line or move the cursor. Of an exception the trace follows, each line indented, so
    that nothing in it looks like an event of its own."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return _INDENT.join(map(_visible, text.split("\n"))) if record.exc_info else _visible(text)


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def configure(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    set_level(level)


def set_level(level: str) -> None:
    logging.getLogger().setLevel(level.upper())
