"""The platform's log lines, where the output is no terminal: one event a line, key=value, and the word `ready` by itself."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime
from typing import TextIO

from cordee.supervisor.events import Event

READY = "ready"  # fixed: whoever starts the platform from a script waits for exactly this line
ALL_READY = "all-ready"


class Lines:
    """An event listener that writes to `out` what is at least `level`."""

    def __init__(self, out: TextIO, level: str) -> None:
        self._out = out
        self._level = logging.getLevelNamesMapping()[level.upper()]

    def __call__(self, event: Event) -> None:
        if event.level >= self._level:
            when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
            self._write(f"{when} level={logging.getLevelName(event.level).lower()} {event.line()}\n")
        if event.what == ALL_READY:
            self._write(READY + "\n")

    def _write(self, text: str) -> None:
        try:
            self._out.write(text)
            self._out.flush()
        except OSError:
            # The reader has gone or the disk is full. The platform goes on without a log; what Python still holds in its
            # buffer must not fail again at exit.
            if self._out is sys.stdout:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, sys.stdout.fileno())
                os.close(null)
