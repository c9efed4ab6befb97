"""The mark of a restore under way, which also holds what it has laid out: one that was killed leaves it."""

from __future__ import annotations

from pathlib import Path

MARK = ".restoring"  # in the data directory, until everything is in its place


def is_unfinished(data: Path) -> bool:
    """Whether a restore was broken off here: what lies there is partly from before and partly from the backup."""
    return (data / MARK).exists()
