"""The step between fork and exec of a child: die with the parent, keep to the given processors, then become the program.

Run as a script with `python -I -S`, before any other import, so that it works for programs that are not Python (Envoy)
as well, and so that the parent needs no code between fork and exec.

    leash.py PARENT_PID CORES PROGRAM [ARGUMENT …]        CORES: "0,1", or "-" for all of the parent's
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1  # prctl(2): the signal the kernel sends this process when its parent thread ends; survives exec
ANY_CORE = "-"
FAILED = 127  # what a shell answers for a program that cannot be started


def hold(parent: int, cores: str) -> None:
    """Tie this process to `parent` and to `cores`. Raises OSError with what the kernel refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent:  # it died before the line above: nobody would ever end us
        raise ProcessLookupError(f"the parent {parent} has gone")
    if cores != ANY_CORE:
        os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # two descriptors per proxied stream add up


def main(argv: list[str]) -> int:
    parent, cores, *command = argv
    try:
        hold(int(parent), cores)
        # Python ignores these two and exec would pass that on to a program that does not expect it.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        signal.signal(
            signal.SIGHUP, signal.SIG_IGN
        )  # "read your configuration anew", to whoever listens: to no one else's death
        os.execv(command[0], command)
    except OSError as error:
        print(f"cannot start {command[0]}: {error}", file=sys.stderr, flush=True)
    return FAILED


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
