"""A real PostgreSQL that can be killed, frozen and slow, at an address that stays."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.ports import free_port
from tests.postgres import NoPostgresError, programs
from tests.rig import until

_NOBODY = 65534
_PIECE_BYTES = 65_536


class Postgres:
    """With a database for each of `names`. PostgreSQL refuses to run as root, so root starts it as `nobody`."""

    def __init__(self, names: Sequence[str]) -> None:
        self._programs = programs()
        self.directory = Path(tempfile.mkdtemp(prefix="cordee-away-"))
        self._user = _NOBODY if os.getuid() == 0 else None
        if self._user is not None:
            os.chown(self.directory, self._user, self._user)
        self.port = free_port()
        made = self._run("initdb", "-D", "data", "-U", "cordee", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        if made.returncode:
            raise NoPostgresError(f"initdb failed: {made.stderr[-300:]}")
        # Kept although it is killed: so nothing is switched off that makes it durable.
        said = "".join(f"CREATE DATABASE {name};\n" for name in names)
        made = self._run("postgres", "--single", "-j", "-D", "data", "postgres", said=said.replace(";\n", ";\n\n"))
        if made.returncode:
            raise NoPostgresError(f"its databases were not made: {made.stderr[-300:]}")
        self.start()

    def start(self) -> None:
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": "",
                   "shared_buffers": "32MB", "max_connections": "100"}  # fmt: skip
        arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._programs / "postgres", "-D", self.directory / "data", *arguments], user=self._user,
                group=self._user, extra_groups=None if self._user is None else [], cwd=self.directory, stdout=log, stderr=log,
            )  # fmt: skip
        until(self._answers, "PostgreSQL answers")

    def signal(self, how: signal.Signals) -> None:
        """Send it to all its processes."""
        pids = [*map(int, Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split())]
        for pid in (self.process.pid, *pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        if how is signal.SIGKILL:
            self.process.wait()

    def close(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _answers(self) -> bool:
        log = (self.directory / "log").read_text()
        assert self.process.poll() is None, log[-500:]
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return log.rstrip().endswith("ready to accept connections")
        return False

    def _run(self, program: str, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._programs / program, *words], user=self._user, group=self._user,
            extra_groups=None if self._user is None else [], cwd=self.directory, input=said, capture_output=True, text=True,
            check=False,
        )  # fmt: skip


class Slow:
    """What lies before a server: everything that it says comes `delay_s` later than it was said."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._target), 1)
                except OSError:
                    client.close()
                    continue
                server.settimeout(None)  # that was for the connecting; who says nothing for a while stays connected
                for source, sink, is_slow in ((client, server, False), (server, client, True)):
                    threading.Thread(target=self._hand_on, args=(source, sink, is_slow), daemon=True).start()

    def _hand_on(self, source: socket.socket, sink: socket.socket, is_slow: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE_BYTES):
                if is_slow and self.delay_s:
                    time.sleep(self.delay_s)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def postgres_that_goes_away(names: Sequence[str]) -> Iterator[tuple[Postgres, Slow]]:
    """Raises NoPostgresError."""
    server = Postgres(names)
    slow = Slow(server.port)
    try:
        yield server, slow
    finally:
        slow.close()
        server.close()
