"""Decides how much a replica may get that has just come, or come back: from a tenth to all of it, in a straight line.

A process that has just begun has cold caches and a queue in front of it that would pour over it all at once. One that was only out
of sight for a moment begins where its absence left it, and where there is nobody else, or all are as new, there is nothing to
protect it with: it gets everything.
"""

from __future__ import annotations

START_SHARE = 0.1


def begin_share(away_s: float | None, slow_start_s: float) -> float:
    """The share to begin with after an absence; None: it is new."""
    if slow_start_s <= 0:
        return 1.0
    return START_SHARE if away_s is None else max(START_SHARE, 1 - away_s / slow_start_s)


def share(passed_s: float, begun_with: float, slow_start_s: float) -> float:
    """The share `passed_s` after the begin: a straight line that would go from 0 to 1 in `slow_start_s`."""
    return min(1.0, begun_with + passed_s / slow_start_s) if slow_start_s > 0 else 1.0
