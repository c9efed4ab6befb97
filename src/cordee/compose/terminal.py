"""SIGHUP has two meanings: "your terminal has gone" and "read your configuration anew". Which one it is, is looked at when it
comes: a process that had a terminal when it started and has none now was left alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress


def has_terminal() -> bool:
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
        return True
    return False


def on_hangup(anew: Callable[[], object], left_alone: Callable[[], object]) -> Callable[[], None]:
    """The handler for SIGHUP; call this at the start."""
    had = has_terminal()

    def hung_up() -> None:
        left_alone() if had and not has_terminal() else anew()

    return hung_up
