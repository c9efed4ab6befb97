"""Files that are whole or not there: written beside, flushed to the disk, then renamed; changed by one process at a time.

A crash or a full disk at any moment leaves the old content. Readers need no lock: a rename shows them old or new.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

OWNER_ONLY = 0o600
OWNER_ONLY_DIRECTORY = 0o700
PART_SUFFIX = ".part"


def replace(path: Path, content: bytes, mode: int = OWNER_ONLY) -> None:
    """Put `content` at `path`, all of it or nothing, on the disk when this returns. Raises OSError.

    Callers hold `locked` on something that covers `path`: the name of the part beside it is fixed, so that a crash can
    leave one at most.
    """
    part = path.with_name(path.name + PART_SUFFIX)
    with contextlib.suppress(FileNotFoundError):
        part.unlink()  # of a crash; O_EXCL below then also refuses a link that somebody planted
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)  # the umask may have taken bits away
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        settle(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def settle(part: Path, path: Path) -> None:
    """Give a finished and flushed file its name, and make the name itself survive a power cut."""
    part.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def directory(path: Path, mode: int = OWNER_ONLY_DIRECTORY) -> Path:
    """Make sure that `path` is a directory; new ones get `mode`. Raises OSError."""
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` against every other process that asks for it. Blocks. The kernel frees it at a crash."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, OWNER_ONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
