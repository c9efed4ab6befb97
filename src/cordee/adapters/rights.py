"""What a process that runs somebody else's model gives up before it opens it: whatever it will not need again.

Files of models come from anywhere and are read by a large library in C. Should one of them take over its process, that process can
start no programs, write and make no files, connect nowhere by TCP, signal nobody else, gain no privileges, and leaves no memory
behind in a core. Landlock does most of it; what the kernel does not offer is said, and the process goes on without.

Landlock binds the calling thread and those it starts: call `give_up` first thing in the main thread. The number of processes is not
limited: that limit counts all of its user's, threads included.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Mapping
from enum import IntFlag
from functools import reduce
from operator import or_
from pathlib import Path

FILE_BYTES_MAX = 64 * 1024 * 1024  # four times the size at which the supervisor takes its log away

PR_SET_NO_NEW_PRIVS, PR_SET_DUMPABLE = 38, 4  # prctl(2)
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446  # system calls, the same everywhere
LANDLOCK_VERSION, LANDLOCK_PATH_BENEATH = 1, 1
NET_CONNECT_TCP = 1 << 1
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1 << 0, 1 << 1


class Access(IntFlag):
    """What Landlock can allow below a directory (landlock(7)), as far as it is given up here."""

    EXECUTE = 1 << 0
    WRITE_FILE = 1 << 1
    REMOVE_DIR = 1 << 4
    REMOVE_FILE = 1 << 5
    MAKE_CHAR = 1 << 6
    MAKE_DIR = 1 << 7
    MAKE_REG = 1 << 8
    MAKE_SOCK = 1 << 9
    MAKE_FIFO = 1 << 10
    MAKE_BLOCK = 1 << 11
    MAKE_SYM = 1 << 12
    REFER = 1 << 13
    TRUNCATE = 1 << 14


SOCKETS = Access.MAKE_SOCK | Access.REMOVE_FILE
DEVICES = Access.WRITE_FILE | Access.TRUNCATE
FILES = Access.WRITE_FILE | Access.MAKE_REG | Access.REMOVE_FILE | Access.REFER | Access.TRUNCATE
_SINCE = {2: Access.REFER, 3: Access.TRUNCATE}  # versions that brought a right; a kernel refuses those it does not know
_NETWORK_SINCE, _SCOPE_SINCE = 4, 6


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def give_up(kept: Mapping[Path, Access]) -> list[str]:
    """`kept`: what stays allowed, by directory. Returns what could not be given up, each in words for the log."""
    libc = ctypes.CDLL(None, use_errno=True)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = FILE_BYTES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILE_BYTES_MAX)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    failed = []
    for option, value, what in (
        (PR_SET_NO_NEW_PRIVS, 1, "gaining privileges"),
        (PR_SET_DUMPABLE, 0, "being read by other processes of this user"),
    ):
        if libc.prctl(option, value, 0, 0, 0):
            failed.append(f"{what} ({os.strerror(ctypes.get_errno())})")
    try:
        _restrict(libc, kept)
    except OSError as error:
        failed.append(f"files, programs and connections (Landlock: {error.strerror})")
    return failed


def _restrict(libc: ctypes.CDLL, kept: Mapping[Path, Access]) -> None:
    version = _call(libc, LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), LANDLOCK_VERSION)
    known = reduce(or_, Access)
    for since, right in _SINCE.items():
        if version < since:
            known &= ~right
    rules = _Ruleset(
        known,
        NET_CONNECT_TCP if version >= _NETWORK_SINCE else 0,
        SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if version >= _SCOPE_SINCE else 0,
    )
    size = ctypes.sizeof(rules) if version >= _SCOPE_SINCE else 8 * (2 if version >= _NETWORK_SINCE else 1)
    ruleset = _call(libc, LANDLOCK_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    try:
        for directory, access in kept.items():
            parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                beneath = _PathBeneath(access & known, parent)
                _call(libc, LANDLOCK_ADD_RULE, ruleset, LANDLOCK_PATH_BENEATH, ctypes.byref(beneath), 0)
            finally:
                os.close(parent)
        _call(libc, LANDLOCK_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _call(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    """Raises OSError."""
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
