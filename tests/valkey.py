"""A Valkey of a test's own, on a unix socket in the test's directory."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from cordee.adapters.valkey import binary, command

PATIENCE_S = 10.0
BYTES_MAX = 64 * 1024 * 1024


class Valkey:
    """`with Valkey(directory) as store:` — `store.url` is what gateways are told."""

    def __init__(self, directory: Path, bytes_max: int = BYTES_MAX) -> None:
        self.directory = directory / "store"
        self.directory.mkdir(exist_ok=True)
        self.path = directory / "store.sock"
        self.url = f"unix:{self.path}"
        self._bytes_max = bytes_max
        self.process = self._start()

    def __enter__(self) -> Valkey:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def restart(self) -> None:
        self.kill()
        self.process = self._start()

    def ask(self, line: bytes) -> bytes:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_S / 2)
            connection.connect(str(self.path))
            connection.sendall(line + b"\r\n")
            return connection.recv(4096)

    def _start(self) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                command(binary(), self.path, self.directory, self._bytes_max), stdout=log, stderr=log,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                if self.ask(b"PING") == b"+PONG\r\n":
                    return process
            except OSError:
                pass
            assert time.monotonic() < end, "the store does not answer"
            time.sleep(0.01)
