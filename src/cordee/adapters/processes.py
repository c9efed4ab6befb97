"""Local processes: started in a session of their own, tied to the parent's life and to their processors, one log file each.

The child is a leader of its own session, so a Ctrl-C in the terminal reaches the supervisor only, which then ends things in
order. If the supervisor itself is killed, the kernel sends every child SIGTERM (see `leash`).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cordee.adapters import leash

LOG_BYTES_MAX = 16 * 1024 * 1024  # per file, and one older file beside it
LOG_MODE = 0o600  # a log may hold what callers asked


@dataclass(frozen=True, slots=True)
class Program:
    """What to start: `argv[0]` is an absolute path, `cores` None leaves the scheduler free."""

    argv: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    cores: frozenset[int] | None = None


class Process:
    """A child that was started."""

    __slots__ = ("_child", "log_offset")

    def __init__(self, child: asyncio.subprocess.Process, log_offset: int) -> None:
        self._child = child
        self.log_offset = log_offset

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.returncode is None

    async def wait(self) -> int:
        """Its exit status; negative: the signal that ended it."""
        return await self._child.wait()

    def terminate(self) -> None:
        """Ask it to end. A stopped process is woken so that it can hear the request."""
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)

    def hang_up(self) -> None:
        """Tell it that its configuration has changed."""
        self._signal(signal.SIGHUP)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def _signal(self, which: signal.Signals) -> None:
        if self.running:
            with suppress(ProcessLookupError):
                self._child.send_signal(which)


async def spawn(program: Program) -> Process:
    """Start it. Raises OSError when the log cannot be opened or no process can be made; a program that cannot be executed
    shows as exit status 127 with the reason in its log."""
    trim_log(program.log)
    log = os.open(program.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, LOG_MODE)
    try:
        offset = os.fstat(log).st_size
        child = await asyncio.create_subprocess_exec(
            *_leashed(program),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=dict(program.environment),
            start_new_session=True,
        )
    finally:
        os.close(log)
    return Process(child, offset)


def _leashed(program: Program) -> tuple[str, ...]:
    cores = leash.ANY_CORE if program.cores is None else ",".join(map(str, sorted(program.cores)))
    return (sys.executable, "-I", "-S", leash.__file__, str(os.getpid()), cores, *program.argv)


def trim_log(path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Move a log that has grown over `bytes_max` to `NAME.1` and go on with an empty one, also under a running writer
    (it appends). On a full disk the old lines are dropped instead: the log must never be what stops the service."""
    try:
        if path.stat().st_size <= bytes_max:
            return
    except OSError:
        return  # not there yet, or unreadable: opening it will say so
    older = path.with_name(path.name + ".1")
    try:
        shutil.copyfile(path, older)
        older.chmod(LOG_MODE)
    except OSError:
        with suppress(OSError):
            older.unlink(missing_ok=True)
    with suppress(OSError):
        os.truncate(path, 0)


def log_tail(path: Path, offset: int, lines_max: int = 12, bytes_max: int = 16 * 1024) -> list[str]:
    """The last lines written since `offset`; what is not UTF-8 or not printable is replaced."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(offset if offset <= end else 0, end - bytes_max))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return ["".join(c if c.isprintable() else " " for c in line) for line in text.splitlines()][-lines_max:]


def start_ticks(pid: int) -> int | None:
    """When process `pid` was started, in kernel ticks since boot; None when there is none. With the pid it names a process for
    good, where a pid alone may have been given to another one since."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    after_name = stat.rpartition(")")[2].split()  # the name in parentheses may hold anything
    return int(after_name[START_TIME_FIELD])


START_TIME_FIELD = 19  # proc(5): field 22 of the line, counted from the state that follows the name
