"""A services process as it is started: every service behind one socket that is its owner's, ended in order, and started on what a killed
one has left."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cordee.cli import main
from cordee.compose.service_apps import kept, those_there
from cordee.compose.services import bind
from cordee.config.sections.services import Services
from cordee.domain.passages import Service
from tests.rig import NOT_SETTINGS, until

CORDEE = (sys.executable, "-P", "-m", "cordee.cli")


class Unix(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("services", timeout=10)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(self._path)


class Running:
    """`cordee services` in a process of its own."""

    def __init__(self, directory: Path, name: str = "s") -> None:
        self.data = directory / "data"
        self.socket = directory / f"{name}.sock"
        self._log = directory / "log"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if name not in NOT_SETTINGS}
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*CORDEE, "services", "--listen", f"unix:{self.socket}", "--data", str(self.data)],
                env=environment, stdout=log, stderr=log,
            )  # fmt: skip

    def again(self) -> None:
        self.process = self._start()

    def get(self, path: str) -> tuple[int, Any]:
        with closing(Unix(self.socket)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def is_ready(self) -> bool:
        assert self.process.poll() is None, self._log.read_text()
        try:
            return bool(self.get("/healthz")[1]["status"] == "ready")
        except OSError:
            return False


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.kill()
    running.process.wait()


@pytest.mark.e2e
def test_all_services_start_together_and_again_on_what_a_killed_process_left(services: Running) -> None:
    until(services.is_ready, "every service", 40)
    health = services.get("/healthz")[1]["services"]
    assert set(health) == {service.value for service in Service}
    assert stat.S_IMODE(services.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE((services.data / "services" / "internal.secret").stat().st_mode) == 0o600
    assert services.get("/.well-known/openid-configuration")[0] == 200
    assert services.get("/v1/files")[0] == 401  # nobody has vouched
    assert services.get("/nowhere")[0] == 404

    services.process.kill()
    services.process.wait()
    services.again()
    until(services.is_ready, "every service again", 40)

    services.process.send_signal(signal.SIGTERM)
    assert services.process.wait(30) == 0
    assert not services.socket.exists()


def test_a_socket_that_somebody_answers_on_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    first = bind(path)
    first.listen()
    with pytest.raises(OSError, match="another process listens there"):
        bind(path)
    first.close()  # its file stays, like that of a killed process
    with bind(path) as second:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert second.family is socket.AF_UNIX


@pytest.mark.parametrize("words", [("--listen", "127.0.0.1:1"), ("--listen", "unix:/tmp/s", "--gateway", "nonsense")])
def test_an_address_that_is_none_is_refused(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["services", "--data", str(tmp_path), *words]) == 2
    assert "is not" in capsys.readouterr().err


def test_every_service_of_the_passages_is_there_with_its_tables_and_their_history() -> None:
    assert those_there() == tuple(Service)
    for one in kept(Services()):
        assert (one.history / "env.py").is_file()
        assert one.metadata().tables
