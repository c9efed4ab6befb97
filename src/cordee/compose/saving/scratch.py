"""Room for what a backup must write before it knows its size, freed by the next one where a backup was killed.

Each is a folder that its process holds by a lock on it, which the kernel takes back from whoever dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cordee.adapters.durable import directory, locked

_PREFIX = "backup-"
_LOCK = "backup.lock"


@contextlib.contextmanager
def scratch(run: Path) -> Iterator[Path]:
    """A new folder in `run`, gone after the block. Raises OSError."""
    with locked(directory(run) / _LOCK):  # or somebody takes one that is not held yet for one that was left
        for left in run.glob(f"{_PREFIX}*/"):
            _free(left)
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=run))
        held = _hold(path)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(held)


def _free(left: Path) -> None:
    with contextlib.suppress(OSError):  # somebody's who lives, or gone by now
        held = _hold(left)
        shutil.rmtree(left, ignore_errors=True)
        os.close(held)


def _hold(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
