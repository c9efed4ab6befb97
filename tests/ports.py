"""Ports for the processes that a test starts.

A port that the kernel gives for nothing is one of those that it also gives to outgoing connections: between the moment a test has
found it and the moment its process listens there, any connection of anything may take it. These lie below that range, and below
the private ports of a platform; each of the processes that share the tests has some of its own, and gives them out in turn.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import socket
from itertools import count

FIRST, PORTS, SHARES = 10_000, 10_000, 8
_NAME = re.compile(r"gw(\d+)")


def _share() -> tuple[int, int]:
    """The first port and the number of those of this process. Without others beside it: all."""
    worker = _NAME.fullmatch(os.environ.get("PYTEST_XDIST_WORKER", ""))
    if worker is None:
        return FIRST, PORTS
    size = PORTS // SHARES
    return FIRST + int(worker[1]) % SHARES * size, size


_first, _size = _share()
_turns = count(secrets.randbelow(_size))  # another test run may be under way


def free_port() -> int:
    """One at which nobody listens, and that was not given lately."""
    for turn, _ in zip(_turns, range(_size), strict=False):
        port = _first + turn % _size
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
    raise OSError(errno.EADDRINUSE, f"all {_size} ports from {_first} on are in use")
