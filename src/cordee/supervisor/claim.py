"""One platform per data directory, and nothing left over from the last one.

A lock that the kernel drops with its holder says who is running. The processes started under it are written down, with the
time of their start, so that what survived a killed supervisor (a stopped process hears no SIGTERM) is found and ended.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

from cordee.adapters.processes import start_ticks

LOCK = "lock"
PIDS = "pids.json"
FILE_MODE = 0o600
DIRECTORY_MODE = 0o700


class ClaimError(Exception):
    """The data directory cannot be had; the message says why and what to do."""


class Claim:
    """The right to run the platform of `data`, from `take` to `release`."""

    def __init__(self, data: Path, run: Path, lock: int) -> None:
        self.data = data
        self.run = run
        self._lock = lock

    @classmethod
    def take(cls, data: Path) -> Self:
        """Make the directories and lock them. Raises ClaimError."""
        run = data / "run"
        try:
            for directory in (data, run, data / "log"):
                directory.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            lock = os.open(run / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        except OSError as error:
            raise ClaimError(
                f"the data directory {data} cannot be used: {error.strerror} ({error.filename}); "
                "free some space, make it writable for this user, or choose another with --data DIR"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 32).decode("ascii", "replace").strip()
            os.close(lock)
            raise ClaimError(
                f"a platform already runs for {data} (supervisor: pid {holder or 'unknown'}); see `cordee status`, end it "
                "with `cordee down`, or start another one with --data DIR and other addresses"
            ) from error
        claim = cls(data, run, lock)
        claim._sign()
        return claim

    def end_leftovers(self) -> list[int]:
        """Kill what the last supervisor started and could not end; returns their pids."""
        ended = []
        for pid, ticks in self._written():
            if start_ticks(pid) == ticks:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
                    ended.append(pid)
        self.write_down(())
        return ended

    def write_down(self, pids: Iterable[int]) -> None:
        """Remember what runs now. A full disk only costs the tidying after a crash, so it is let pass."""
        entries = [(pid, ticks) for pid in pids if (ticks := start_ticks(pid)) is not None]
        path, new = self.run / PIDS, self.run / (PIDS + ".new")
        with suppress(OSError):
            new.write_text(json.dumps(entries))
            new.replace(path)

    def release(self) -> None:
        (self.run / PIDS).unlink(missing_ok=True)
        os.close(self._lock)

    def _sign(self) -> None:
        with suppress(OSError):
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def _written(self) -> list[tuple[int, int]]:
        try:
            entries = json.loads((self.run / PIDS).read_bytes())
            return [(int(pid), int(ticks)) for pid, ticks in entries]
        except (OSError, ValueError, TypeError):
            return []
