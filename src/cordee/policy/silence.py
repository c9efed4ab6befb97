"""Decides what the silence of a process means that used to report: nothing yet, that somebody should know of it, or that it will not
speak again and has to be ended, because a frozen process keeps its place and its clients for ever.

Silence is counted only while the listener was awake itself. One that was stopped, or whose host slept, has heard nobody, and to
hold that against them would end everything at the moment of waking. So every look adds the time since the look before it, but no
more than looking can take, and never so much that one look could decide; whoever then speaks starts anew.
"""

from __future__ import annotations

from enum import Enum

SILENT_S = 3.0  # six missed reports: more than a busy processor explains
LOOK_S_MAX = 5.0  # from one look to the next, with every question at its time-out; the rest of a longer gap was sleep
LOOKS_MIN = 3  # that it takes to lose patience


class Hearing(Enum):
    """What is known of a process by its reports."""

    WELL = "well"
    SILENT = "silent"
    LOST = "lost"  # silent for longer than anybody should wait


class Silence:
    """The silence of one process. `patience_s`: after so much of it the process is lost, in seconds, more than SILENT_S; 0: never."""

    __slots__ = ("_look_s_max", "_looked_s", "_patience_s", "silent_s")

    def __init__(self, patience_s: float) -> None:
        assert patience_s == 0 or patience_s > SILENT_S
        self._patience_s = patience_s
        self._look_s_max = min(LOOK_S_MAX, patience_s / LOOKS_MIN) if patience_s else LOOK_S_MAX
        self._looked_s = 0.0
        self.silent_s = 0.0  # of which the listener was awake

    def heard(self, now: float) -> None:
        """It has spoken, or begun to live."""
        self._looked_s = now
        self.silent_s = 0.0

    def look(self, now: float) -> Hearing:
        """To be asked about once a second."""
        self.silent_s += min(self._look_s_max, now - self._looked_s)
        self._looked_s = now
        if self._patience_s and self.silent_s >= self._patience_s:
            return Hearing.LOST
        return Hearing.SILENT if self.silent_s > SILENT_S else Hearing.WELL
