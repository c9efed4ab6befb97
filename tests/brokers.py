"""Real brokers for tests, each on a free port of loopback, in a directory that goes with it: Valkey, RabbitMQ, and one that speaks
Kafka's protocol. Each can be killed and comes back at the same address with what it had promised to keep."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import redis

from cordee.adapters.valkey import binary
from tests.ports import free_port

START_S = 40.0
RABBIT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONTROL_S = 60.0


class NoBrokerError(Exception):
    """It cannot be started here; the message says why."""


def answers(port: int, say: bytes = b"", expect: bytes = b"") -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            if say:
                connection.sendall(say)
                return connection.recv(64).startswith(expect)
            return True
    except OSError:
        return False


class Server:
    """A child process with an address. `stop_signal`: what it is ended with when it is to keep everything."""

    stop_signal = signal.SIGKILL

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.directory.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process = self._start()

    @property
    def url(self) -> str:
        raise NotImplementedError

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def is_there(self) -> bool:
        return answers(self.port)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, self.stop_signal)
        self.process.wait(20)

    def close(self) -> None:
        self.stop_signal = signal.SIGKILL
        self.kill()

    def start(self) -> None:
        self.process = self._start()

    def fill(self, *, full: bool) -> None:
        """From now on it takes nothing more, or what it can again."""
        raise NotImplementedError

    def _start(self) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            process = subprocess.Popen(
                self.command(), env={**os.environ, **self.environment()}, cwd=self.directory, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + START_S
        while not self.is_there():
            if process.poll() is not None or time.monotonic() > until:
                process.kill()
                said = (self.directory / "log").read_text(errors="replace")[-500:]
                raise NoBrokerError(f"{self.command()[0]} did not start: {said}")
            time.sleep(0.05)
        return process


class ValkeyBroker(Server):
    """What it has acknowledged is on disk."""

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return (
            str(binary()), "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory),
            "--appendonly", "yes", "--appendfsync", "always", "--save", "",
        )  # fmt: skip

    def is_there(self) -> bool:
        return answers(self.port, b"PING\r\n", b"+PONG")

    def fill(self, *, full: bool) -> None:
        with redis.Redis(port=self.port) as valkey:
            valkey.config_set("maxmemory", 1 if full else 0)


class RabbitBroker(Server):
    """Debian's, with a port mapper of its own."""

    def __init__(self, directory: Path) -> None:
        if not RABBIT.exists():
            raise NoBrokerError("no RabbitMQ: install Debian's rabbitmq-server")
        epmd = shutil.which("epmd")
        if epmd is None:
            raise NoBrokerError("no epmd: install Debian's erlang-base")
        self.name = f"cordee{secrets.token_hex(3)}"
        self.ports = (free_port(), free_port())
        self.mapper = subprocess.Popen(
            [epmd, "-port", str(self.ports[0]), "-address", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )  # fmt: skip
        try:
            super().__init__(directory)
        except NoBrokerError:
            self.mapper.kill()
            raise

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def command(self) -> Sequence[str]:
        return (str(RABBIT),)

    def environment(self) -> dict[str, str]:
        where = self.directory
        (where / "plugins").write_text("[].")
        return {
            "HOME": str(where), "RABBITMQ_NODENAME": f"{self.name}@localhost", "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_DIST_PORT": str(self.ports[1]),
            "ERL_EPMD_PORT": str(self.ports[0]), "RABBITMQ_MNESIA_BASE": str(where / "mnesia"),
            "RABBITMQ_LOG_BASE": str(where / "logs"), "RABBITMQ_ENABLED_PLUGINS_FILE": str(where / "plugins"),
            "RABBITMQ_PID_FILE": str(where / "pid"), "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 1:1",
        }  # fmt: skip

    def is_there(self) -> bool:
        return answers(self.port, b"AMQP\x00\x00\x09\x01", b"\x01")

    def fill(self, *, full: bool) -> None:
        """By its own alarm: it reads nothing more from whoever publishes."""
        self.control("set_vm_memory_high_watermark", "0.0000001" if full else "0.6")

    def control(self, *words: str) -> str:
        """What rabbitmqctl says to them."""
        done = subprocess.run(
            [RABBIT.with_name("rabbitmqctl"), "--node", f"{self.name}@localhost", *words],
            env={**os.environ, **self.environment()}, capture_output=True, text=True, timeout=CONTROL_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def close(self) -> None:
        super().close()
        self.mapper.kill()
        self.mapper.wait()


class KafkaBroker(Server):
    """It writes down what it has when it is asked to end, not before."""

    stop_signal = signal.SIGINT

    @property
    def url(self) -> str:
        return f"kafka://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        package = importlib.util.find_spec("noida_db")
        if package is None or package.origin is None:
            raise NoBrokerError("nothing that speaks Kafka: install the package noida-db")
        program = Path(package.origin).with_name("noida-db")
        program.chmod(program.stat().st_mode | 0o100)
        return (
            str(program), "start", "--data-dir", str(self.directory / "data"), "--host", "127.0.0.1", "--only", "kafka",
            "--kafka-port", str(self.port),
        )  # fmt: skip


KINDS: dict[str, Callable[[Path], Server]] = {"valkey": ValkeyBroker, "rabbitmq": RabbitBroker, "kafka": KafkaBroker}
