"""`cordee up`: what is said before anything starts, and the whole thing with the oracle engine."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

import pytest

from cordee.adapters.processes import start_ticks
from cordee.compose.platform import in_the_clear
from cordee.supervisor.addresses import private_ports, resolve
from tests.rig import end

CORDEE = (sys.executable, "-P", "-m", "cordee.cli")
PATIENCE_S = 40.0


def cordee(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CORDEE_")}
    return subprocess.run(
        [*CORDEE, *words], env=clean | environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def free(seed: Path) -> tuple[str, str]:
    web, mobile = private_ports(2, f"{seed} public")
    return f"127.0.0.1:{web}", f"127.0.0.1:{mobile}"


class Running:
    """A platform in a process of its own, with its output in a file. Without services unless they are what it is about."""

    def __init__(self, data: Path, *words: str, services: bool = False) -> None:
        self.data = data
        self.web, self.mobile = free(data)
        self.output = data.parent / "output"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CORDEE_")}
        with self.output.open("wb") as output:
            self.up = subprocess.Popen(
                [*CORDEE, "up", "--data", str(data), "--web", self.web, "--mobile", self.mobile, "--model", "oracle",
                 *(() if services else ("--no-services",)), *words],
                stdout=output, stderr=output, env=clean,
            )  # fmt: skip

    def __enter__(self) -> Self:
        try:
            self.until_ready()
        except BaseException:
            self.__exit__()  # nobody else ends what was started
            raise
        return self

    def __exit__(self, *_: object) -> None:
        end(self.up, PATIENCE_S)

    def until_ready(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while "ready" not in self.output.read_text().splitlines():
            assert self.up.poll() is None, self.output.read_text()
            assert time.monotonic() < deadline, self.output.read_text()
            time.sleep(0.05)

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(cordee("status", "--json", "--data", str(self.data)).stdout)
        return answer

    def until_well(self) -> dict[str, Any]:
        """The status once it is "ready": the edge leaves out a gateway that stands still for half a second."""
        deadline = time.monotonic() + PATIENCE_S
        while (status := self.status())["state"] != "ready":
            assert time.monotonic() < deadline, status
            time.sleep(0.1)
        return status

    def pids(self) -> dict[str, int]:
        return {one["name"]: one["pid"] for one in self.status()["processes"] if one["pid"]}

    def ask(self, address: str, path: str = "/v1/models") -> int:
        host, _, port = address.rpartition(":")
        key = (self.data / "admin.key").read_text().strip()
        with closing(http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
            response = connection.getresponse()
            response.read()
            return response.status


def gone(pids: dict[str, int], within_s: float) -> dict[str, int]:
    """Those that still run when the time is over."""
    born = {name: start_ticks(pid) for name, pid in pids.items()}
    deadline = time.monotonic() + within_s
    while True:
        left = {n: pid for n, pid in pids.items() if start_ticks(pid) == born[n] is not None and not zombie(pid)}
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def zombie(pid: int) -> bool:
    """With no other thread left, which would keep its sockets open."""
    with suppress(OSError):
        is_dead = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return is_dead and len(os.listdir(f"/proc/{pid}/task")) == 1
    return True


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path / "data") as running:
        yield running


@pytest.mark.e2e
def test_everything_is_told_survives_a_death_and_ends_cleanly(platform: Running) -> None:
    status = platform.until_well()
    assert {(one["server"], one["role"]) for one in status["processes"]} == {
        *((server, role) for server in (1, 2) for role in ("web", "mobile", "worker")),
        *((0, "edge"), (0, "store"), (0, "supervisor")),
    }
    for one in status["processes"]:
        assert {"server", "role", "name", "pid", "address", "state", "model", "load"} <= set(one)
        assert one["state"] == "ready"
    assert platform.ask(platform.web) == 200
    assert platform.ask(platform.mobile) == 200

    key = (platform.data / "admin.key").read_text().strip()
    assert key not in platform.output.read_text()
    for pid in platform.pids().values():
        assert key not in Path(f"/proc/{pid}/cmdline").read_text()

    before = platform.pids()
    for name in ("web-1", "web-2"):
        os.kill(before[name], signal.SIGKILL)
    # Until the kernel has closed a killed process's sockets a request may still go down with it; from then on none does.
    assert gone({name: before[name] for name in ("web-1", "web-2")}, 5.0) == {}
    assert platform.ask(platform.web) == 200
    platform.until_well()
    assert platform.pids()["web-1"] != before["web-1"]
    assert platform.ask(platform.web) == 200

    pids = platform.pids()
    down = cordee("down", "--data", str(platform.data))
    assert down.returncode == 0, down.stderr
    assert platform.up.wait(PATIENCE_S) == 0
    assert gone(pids, 1.0) == {}
    assert cordee("status", "--data", str(platform.data)).returncode == 3


@pytest.mark.e2e
def test_nothing_outlives_a_killed_supervisor_and_the_next_one_starts(platform: Running) -> None:
    pids = platform.pids()
    os.kill(pids["worker-2"], signal.SIGSTOP)  # hears nothing until the next supervisor
    platform.up.kill()
    platform.up.wait()
    assert set(gone({name: pid for name, pid in pids.items() if name != "worker-2"}, PATIENCE_S)) == set()
    again = Running(platform.data)
    try:
        again.until_ready()
        assert gone({"worker-2": pids["worker-2"]}, 1.0) == {}
    finally:
        again.up.send_signal(signal.SIGINT)
        assert again.up.wait(PATIENCE_S) == 0


@pytest.mark.e2e
def test_a_second_platform_of_the_same_directory_is_refused(platform: Running) -> None:
    web, mobile = free(platform.data.parent / "other")
    second = cordee("up", "--data", str(platform.data), "--model", "oracle", "--web", web, "--mobile", mobile)
    assert second.returncode == 1
    assert f"pid {platform.up.pid}" in second.stderr
    platform.until_well()


@pytest.mark.e2e
def test_without_an_edge_the_gateways_take_the_addresses(tmp_path: Path) -> None:
    running = Running(tmp_path / "data", "--no-edge", "--servers", "1")
    try:
        running.until_ready()
        assert sorted(running.pids()) == ["mobile-1", "store", "supervisor", "web-1", "worker-1"]
        assert running.ask(running.web) == 200
        assert running.ask(running.mobile) == 200
    finally:
        running.up.send_signal(signal.SIGTERM)
        assert running.up.wait(PATIENCE_S) == 0


@pytest.mark.e2e
def test_a_process_that_cannot_start_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    envoy = tmp_path / "not-envoy"
    envoy.write_text("#!/bin/sh\necho the reason is written here; exit 1\n")
    envoy.chmod(0o755)
    (tmp_path / "cordee.toml").write_text(f'[edge]\nbinary = "{envoy}"\n')
    running = Running(tmp_path / "data", "--config", str(tmp_path / "cordee.toml"))
    assert running.up.wait(PATIENCE_S) == 1
    output = running.output.read_text()
    assert "the reason is written here" in output
    assert gone({name: int(pid) for name, pid in re.findall(r"event=started name=(\S+) pid=(\d+)", output)}, 1.0) == {}


@pytest.mark.e2e
def test_services_are_part_of_the_platform_and_their_death_is_no_trouble_for_models(tmp_path: Path) -> None:
    running = Running(tmp_path / "data", "--no-edge", "--servers", "2", services=True)
    try:
        running.until_ready()
        status = running.until_well()
        services = {one["name"]: one for one in status["processes"] if one["role"] == "services"}
        assert sorted(services) == ["services-1", "services-2"]
        assert all(one["missing"] == {} for one in services.values())
        assert running.ask(running.web, "/v1/files") == 200
        os.kill(services["services-1"]["pid"], signal.SIGKILL)
        assert gone({"services-1": services["services-1"]["pid"]}, 5.0) == {}
        assert running.ask(running.web, "/v1/files") == 200  # the other server's
        assert running.ask(running.web) == 200
        running.until_well()
    finally:
        running.up.send_signal(signal.SIGTERM)
        assert running.up.wait(PATIENCE_S) == 0


def test_a_taken_port_is_named_with_the_option_that_changes_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        up = cordee("up", "--data", str(tmp_path), "--model", "oracle", "--web", address)
    assert up.returncode == 1
    assert f"cannot listen on {address}: another program listens there" in up.stderr
    assert "--web HOST:PORT" in up.stderr
    assert up.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--model", "no-such-model"), 1, "no-such-model"),
        (("--model", "./absent.gguf"), 1, "absent.gguf"),
        (("--servers", "0"), 2, "servers = 0"),
        (("--web", "nonsense"), 2, "web.address"),
        (("--config", "/no/such/file.toml"), 2, "/no/such/file.toml"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    web, mobile = free(tmp_path)
    up = cordee(
        "up",
        "--data",
        str(tmp_path / "data"),
        "--mobile",
        mobile,
        *(() if "--web" in words else ("--web", web)),
        *words,
    )
    assert up.returncode == code
    assert said in up.stderr
    assert "Traceback" not in up.stderr


def test_a_certificate_that_cannot_be_used_is_refused_before_anything_starts(tmp_path: Path) -> None:
    pem, web, mobile = tmp_path / "c.pem", *free(tmp_path)
    pem.write_text("nothing of the kind")
    config = tmp_path / "cordee.toml"
    words = (
        "up",
        "--data",
        str(tmp_path / "data"),
        "--model",
        "oracle",
        "--config",
        str(config),
        "--web",
        web,
        "--mobile",
        mobile,
    )
    for more, code, said in (
        (f'certificate = "{pem}"\nkey = "{pem}"\n', 1, f"edge.tls.certificate {pem}: it holds no certificate"),
        (f'certificate = "{pem}"\n', 2, "line 3: edge.tls.certificate is given without edge.tls.key"),
        ("names = []\n", 2, "edge.tls.names is empty"),
        ('names = ["not a name/"]\nhttp3 = true\n', 2, "there is no setting edge.tls.http3"),
    ):
        config.write_text("[edge.tls]\nenabled = true\n" + more)
        up = cordee(*words)
        assert (up.returncode, said in up.stderr) == (code, True), up.stderr
        assert "Traceback" not in up.stderr


def test_an_address_that_others_reach_without_tls_is_warned_of() -> None:
    outside, inside = (resolve(address, "--web") for address in ("0.0.0.0:8000", "127.0.0.1:8100"))
    (event,) = in_the_clear([outside, inside], tls=False)
    assert "edge.tls.enabled" in event.line()
    assert "0.0.0.0:8000" in event.line()
    assert in_the_clear([outside, inside], tls=True) == []


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    up = cordee("up", "--data", str(tmp_path / "data"), "--model", "oracle")
    assert up.returncode == 1
    assert "--data DIR" in up.stderr


def test_a_bad_admin_key_is_refused_without_being_shown(tmp_path: Path) -> None:
    web, mobile = free(tmp_path)
    words = ("up", "--data", str(tmp_path / "data"), "--model", "oracle", "--web", web, "--mobile", mobile)
    up = cordee(*words, CORDEE_ADMIN_KEY="hidden\x01hidden")
    assert up.returncode == 1
    assert "CORDEE_ADMIN_KEY" in up.stderr
    assert "hidden" not in up.stderr
