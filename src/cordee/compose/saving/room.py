"""Whether what is to be written fits on the disks it goes to, asked before anything is written there.

A disk that becomes full in the middle harms more than the backup: on the installation's own disk services refuse to write. What is needed
is bounded from above (contents before they are compressed, whole blocks), so who knows better may go on all the same.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from cordee.compose.saving.problem import SavingError
from cordee.domain.record import record

GO_ON = "--ignore-free-space"
WORKING_BYTES = 1 << 20  # beside contents: what lists them, and what a database writes when it is opened
_BLOCK_BYTES = 4096
_ENTRY_BYTES = 1024  # said of an entry before its content
_STEP = 1024
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


@record
class Need:
    """So many bytes below `directory`, which need not exist yet. `for_what` as it is said: "the backup"."""

    directory: Path
    bytes: int
    for_what: str


def check(needs: Iterable[Need]) -> None:
    """Raises SavingError when a disk has less room than what goes there needs together."""
    by_disk: dict[int, list[Need]] = defaultdict(list)
    for need in needs:
        by_disk[_there(need.directory).stat().st_dev].append(need)
    for together in by_disk.values():
        needed, directory = sum(need.bytes for need in together), together[0].directory
        free = shutil.disk_usage(_there(directory)).free
        if needed > free:
            what = " and ".join(dict.fromkeys(need.for_what for need in together))
            raise SavingError(
                f"{directory} has {said(free)} free, and {what} may need {said(needed)} there: free {said(needed - free)}, "
                f"choose another disk, or give {GO_ON} to try all the same"
            )


def on_disk(size: int) -> int:
    """What a file of `size` bytes takes."""
    return -(-size // _BLOCK_BYTES) * _BLOCK_BYTES + _BLOCK_BYTES  # and its name, or its folder's


def in_archive(size: int) -> int:
    """What an entry of `size` bytes takes where nothing of it can be compressed."""
    return size + _ENTRY_BYTES


def said(size: int) -> str:
    """A number of bytes for people, rounded up to a tenth."""
    if size < _STEP:
        return f"{size} bytes"
    for power, unit in enumerate(_UNITS):
        tenths = -(-size * 10 // _STEP**power)
        if tenths < _STEP * 10 or unit == _UNITS[-1]:
            return f"{tenths // 10}.{tenths % 10} {unit}"
    raise AssertionError("the last unit takes any number")


def _there(directory: Path) -> Path:
    """The nearest that exists."""
    return next(one for one in (directory, *directory.parents) if one.is_dir())
