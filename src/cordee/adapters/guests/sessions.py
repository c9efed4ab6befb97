"""The processes of a guest: a server starts further ones, and when it is killed they may stay behind with their memory and their GPU.

All of them are in the session that its first process leads. The session is written down, so that a successor finds what a killed
minder has left over. A number names a session as long as one process of it lives; the kernel gives it to nobody else meanwhile, but
may after that, so its beginning and the boot stand beside it.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path

from cordee.adapters.processes import start_ticks

BOOT = Path("/proc/sys/kernel/random/boot_id")
SESSION_FIELD = 3  # proc(5): field 6 of the line, counted from the state that follows the name
FILE_MODE = 0o600


def members(session: int) -> list[int]:
    """The processes of this session that live, its leader among them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(after_name[SESSION_FIELD]) == session and after_name[0] != "Z":
                    found.append(int(entry.name))
    return found


def end(session: int) -> list[int]:
    """Kill what is left of it; returns the pids."""
    pids = members(session)
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return pids


def write_down(path: Path, session: int) -> None:
    """Remember a session that began just now. A full disk only costs the tidying after a crash, so it is let pass."""
    entry = {"session": session, "began": start_ticks(session), "boot": _boot()}
    with suppress(OSError):
        path.touch(FILE_MODE)
        path.write_text(json.dumps(entry))


def end_leftover(path: Path) -> list[int]:
    """Kill what is left of the session that was written down at `path`; returns the pids."""
    try:
        entry = json.loads(path.read_bytes())
        session, began, boot = int(entry["session"]), entry["began"], str(entry["boot"])
    except (OSError, ValueError, TypeError, KeyError):
        return []
    with suppress(OSError):
        path.unlink()
    leader = start_ticks(session)
    if not boot or boot != _boot() or (leader is not None and leader != began):
        return []
    return end(session)


def _boot() -> str:
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""
