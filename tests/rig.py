"""Real processes for end-to-end tests and benchmarks: workers and a gateway in a directory of their own, on free ports.

The oracle's answers are a function of their seed, so every stream is checked token by token.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cordee.policy.oracle import answer_length, token_at
from tests.ports import free_port

KEY = "sk-test-key"
PATIENCE_S = 30.0
NOT_SETTINGS = (
    "CORDEE_CONTROL",
    "CORDEE_RECORD",
    "CORDEE_SOAK_S",
)  # of the supervisor, of rehearsals: not for processes
HEADERS = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}


def oracle_text(seed: int, max_tokens: int, *, ignore_eos: bool = True) -> str:
    return "".join(f"{token_at(seed, i):04x} " for i in range(answer_length(seed, max_tokens, ignore_eos=ignore_eos)))


class Rig:
    """`workers` of one model and one gateway. Every process is ended when the block ends, whatever happened in it."""

    def __init__(
        self, directory: Path, model: str = "oracle", workers: int = 2, environment: dict[str, str] | None = None,
        worker_flags: tuple[str, ...] = (), gateways: int = 1, kind: str = "web", gateway_flags: tuple[str, ...] = (),
        ports: list[int] | None = None,
    ) -> None:  # fmt: skip
        self.directory = directory
        self.model = model
        self.ports = ports or [free_port() for _ in range(gateways)]
        self._environment = {**os.environ, "CORDEE_ADMIN_KEY": KEY, **(environment or {})}
        for name in NOT_SETTINGS:
            self._environment.pop(name, None)
        self._flags = worker_flags
        self._kind = kind
        self.grpc_ports = [free_port() for _ in range(gateways)] if kind == "mobile" else []
        self._gateway_flags = gateway_flags
        self.workers: list[subprocess.Popen[bytes]] = []
        self.gateways: list[subprocess.Popen[bytes]] = []
        for number in range(workers):
            self.workers.append(self._start_worker(number))
        for number in range(gateways):
            self.gateways.append(self._start_gateway(number))

    def __enter__(self) -> Rig:
        try:
            self.wait_ready()
        except BaseException:
            self.__exit__()  # nobody else ends what was started
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.gateways, *self.workers):
            if process.poll() is None:
                process.kill()
            process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}/v1"

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def wait_ready(self, replicas: int | None = None) -> None:
        """Until every gateway has all its workers."""
        wanted = len(self.workers) if replicas is None else replicas
        for number in range(len(self.ports)):
            until(lambda number=number: self.ready_replicas(number) == wanted, f"{wanted} ready workers")

    def ready_replicas(self, gateway: int = 0) -> int:
        lines = self.get("/metrics", gateway).splitlines()
        return sum(line.startswith("cordee_replica_ready{") and line.endswith(" 1.0") for line in lines)

    def metric(self, name: str, gateway: int = 0) -> float:
        """The sum over all labels."""
        found = [
            line for line in self.get("/metrics", gateway).splitlines() if line.split("{")[0].split(" ")[0] == name
        ]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def metric_of(self, name: str, label: str, gateway: int = 0) -> float:
        """Of the line that has this label, 0 where there is none."""
        found = [
            line for line in self.get("/metrics", gateway).splitlines() if line.startswith(name + "{") and label in line
        ]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    def get(self, path: str, gateway: int = 0) -> str:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", self.ports[gateway], timeout=5)
            connection.request("GET", path, headers=HEADERS)
            return connection.getresponse().read().decode()
        return ""

    def post(self, path: str, body: dict[str, Any], gateway: int = 0, timeout_s: float = 60) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[gateway], timeout=timeout_s)
        connection.request("POST", path, json.dumps(body), HEADERS)
        response = connection.getresponse()
        return response.status, json.loads(response.read())

    def stream(
        self, path: str, body: dict[str, Any], gateway: int = 0, timeout_s: float = 60
    ) -> Iterator[dict[str, Any]]:
        """The events of a stream; fails unless it ends with [DONE]."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[gateway], timeout=timeout_s)
        connection.request("POST", path, json.dumps({**body, "stream": True}), HEADERS)
        response = connection.getresponse()
        assert response.status == 200, response.read()
        for line in response:
            if line.startswith(b"data: [DONE]"):
                assert response.read().strip() == b"", "something follows [DONE]"
                return
            if line.startswith(b"data: "):
                yield json.loads(line[6:])
        raise AssertionError("the stream ended without [DONE]")

    def kill_worker(self, number: int, how: signal.Signals = signal.SIGKILL) -> float:
        """Returns the monotonic time of the signal."""
        at = time.monotonic()
        os.kill(self.workers[number].pid, how)
        if how is signal.SIGKILL:
            self.workers[number].wait()
        return at

    def restart_worker(self, number: int, environment: dict[str, str] | None = None) -> None:
        """`environment`: what this worker has beside the others'."""
        self.workers[number] = self._start_worker(number, environment)

    def _start_worker(self, number: int, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        name = f"worker-{number + 1}"
        listen = ("--listen", f"unix:{self._socket(number)}")
        return self._start(name, "worker", *listen, "--name", name, *self._flags, environment=environment)

    def _start_gateway(self, number: int) -> subprocess.Popen[bytes]:
        replicas = [flag for n in range(len(self.workers)) for flag in ("--replica", f"unix:{self._socket(n)}")]
        listen = f"127.0.0.1:{self.ports[number]}"
        shared: tuple[str, ...] = ("--gateways", str(len(self.ports)), "--kind", self._kind)
        if self.grpc_ports:
            shared += ("--grpc", f"127.0.0.1:{self.grpc_ports[number]}")
        return self._start(
            f"gateway-{number + 1}", "gateway", "--listen", listen, *shared, *self._gateway_flags, *replicas
        )

    def _start(self, name: str, *command: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            return subprocess.Popen(  # our own command line
                [sys.executable, "-m", "cordee.cli", *command, "--data", str(self.directory), "--model", self.model],
                env={**self._environment, **(environment or {})}, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory,
            )  # fmt: skip

    def _socket(self, number: int) -> Path:
        return self.directory / f"w{number + 1}.sock"


def end(process: subprocess.Popen[bytes], patience_s: float = PATIENCE_S) -> None:
    """Ask a process to end; it is killed when it does not, and that is a failure."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(patience_s)
        finally:
            process.kill()
            process.wait()


def until(condition: Any, what: str | Callable[[], str], patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition; fails with `what` when it does not come."""
    end = time.monotonic() + patience_s
    while not condition():
        is_late = time.monotonic() >= end
        assert not is_late, f"not within {patience_s:g} s: {what if isinstance(what, str) else what()}"
        time.sleep(0.02)


def seeds(count: int, of: int = 1) -> list[int]:
    return [random.Random(of * 1_000_003 + i).getrandbits(40) for i in range(count)]
