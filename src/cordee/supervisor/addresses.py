"""Where processes listen: public addresses checked before anything starts, private ports and socket paths chosen.

Private ports lie outside the kernel's ephemeral range: a port inside it may be taken by any outgoing connection while its
owner is being restarted, and then the owner could not come back.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_DEFAULT = (32768, 60999)  # Linux, where /proc does not say
PRIVATE_PORTS = range(20000, 65536)  # below lie the well-known and most registered ones
BLOCK = 16  # platforms of different data directories start their search this far apart: most need fewer
LOOPBACK = "127.0.0.1"
UNIX_PATH_MAX = 107  # sockaddr_un.sun_path is 108 bytes with its closing zero
SOCKET_NAME_MAX = 40  # the longest file name we put into the directory, with room to spare
OWNER_ONLY = 0o700


class AddressError(Exception):
    """An address cannot be used; the message says which setting to change."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """An address as the kernel takes it; `host` is numeric."""

    family: socket.AddressFamily
    host: str
    port: int

    @property
    def text(self) -> str:
        return f"[{self.host}]:{self.port}" if self.family is socket.AF_INET6 else f"{self.host}:{self.port}"

    @property
    def reachable(self) -> Resolved:
        """The same port at an address that can be connected to from this host: "any" is not one."""
        mine = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 — to be replaced, not to bind
        return Resolved(self.family, mine.get(self.host, self.host), self.port)


def resolve(address: str, setting: str) -> Resolved:
    """`HOST:PORT` or `[IPV6]:PORT`, looked up. Raises AddressError naming `setting`."""
    host, _, port = address.rpartition(":")
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICSERV
        )
    except (OSError, ValueError, UnicodeError) as error:
        raise AddressError(f"{setting} {address}: this host has no such address ({error}); name another") from error
    family, _, _, _, where = min(found, key=lambda one: one[0] != socket.AF_INET)  # localhost: IPv4 where there is one
    return Resolved(family, str(where[0]), int(where[1]))


def check_free(address: Resolved, setting: str) -> None:
    """Raises AddressError when nobody can listen there, with the reason and the cure."""
    try:
        _bind(address)
    except OSError as error:
        match error.errno:
            case errno.EADDRINUSE:
                what = "another program listens there; stop it (`ss -ltnp` names it), or choose another address with"
            case errno.EACCES:
                what = "this user may not use ports below 1024; choose a higher one with"
            case errno.EADDRNOTAVAIL:
                what = "this host has no such address; choose one that it has, such as 127.0.0.1, with"
            case _:
                what = f"{error.strerror}; choose another address with"
        raise AddressError(f"cannot listen on {address.text}: {what} {setting} HOST:PORT") from error


def private_ports(count: int, seed: str, avoid: frozenset[int] = frozenset()) -> list[int]:
    """`count` free loopback ports, the same ones every time for the same `seed` as long as they are free."""
    ephemeral = _ephemeral()
    candidates = [port for port in PRIVATE_PORTS if port not in ephemeral and port not in avoid]
    start = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") * BLOCK % max(1, len(candidates))
    free = _free(candidates[start:] + candidates[:start])
    ports = [port for _, port in zip(range(count), free, strict=False)]
    if len(ports) < count:
        raise AddressError(
            f"only {len(ports)} of {count} private ports are free in {PRIVATE_PORTS.start}–{PRIVATE_PORTS.stop - 1} "
            f"outside the ephemeral range of {EPHEMERAL_RANGE}; make that range smaller"
        )
    return ports


def socket_dir(run: Path, data: Path, runtime: str | None) -> Path:
    """Where unix sockets go: `run` itself, or a short directory of the owner's where their paths would be too long for the
    kernel. Raises AddressError when that one is not ours alone."""
    if len(os.fsencode(run)) + 1 + SOCKET_NAME_MAX <= UNIX_PATH_MAX:
        return run
    mine = Path(runtime) / "cordee" if runtime else Path(f"/tmp/cordee-{os.getuid()}")  # noqa: S108 — owner checked below
    short = mine / hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    for directory in (mine, short):
        directory.mkdir(mode=OWNER_ONLY, parents=True, exist_ok=True)
        info = directory.lstat()
        if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o077:
            raise AddressError(
                f"{directory} must be a directory of this user with mode 700; remove it, or shorten --data"
            )
    if len(os.fsencode(short)) + 1 + SOCKET_NAME_MAX > UNIX_PATH_MAX:
        raise AddressError(f"socket paths under {run} and {short} are over {UNIX_PATH_MAX} bytes; shorten --data")
    return short


def _ephemeral() -> range:
    try:
        low, high = map(int, EPHEMERAL_RANGE.read_text().split())
    except (OSError, ValueError):
        low, high = EPHEMERAL_DEFAULT
    return range(low, high + 1)


def _free(ports: list[int]) -> Iterator[int]:
    for port in ports:
        try:
            _bind(Resolved(socket.AF_INET, LOOPBACK, port))
        except OSError:
            continue
        yield port


def _bind(address: Resolved) -> None:
    with socket.socket(address.family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family is socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.bind((address.host, address.port))
        probe.listen(1)
