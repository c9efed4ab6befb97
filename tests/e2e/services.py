"""A platform with its services, as people and programs use it: an installation with an operator and tenants that know nothing of each
other."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import openai

from tests.ports import free_port
from tests.rig import end, until

PASSWORD = "correct horse battery"
PATIENCE_S = 60.0
SCOPES = tuple(
    f"{what}.{how}" for what in ("chats", "files", "batches", "webhooks", "keys") for how in ("read", "write")
)
QUICK = """[oracle]
token_s = {token_s}
[services]
per_server = {processes}
[services.webhooks]
allow_private = ["127.0.0.1/32"]
[services.chats.responses]
lease_s = 2.0
tidy_s = 0.5
[services.chats.outbox]
lease_s = 3.0
publish_s = 1.0
[services.batches]
turn_s = 5.0
[services.batches.outbox]
lease_s = 3.0
publish_s = 1.0
[services.webhooks.inbox]
lease_s = 2.0
[services.batches.jobs]
lease_s = 2.0
poll_s = 0.2
settle_s = 0.5
"""


@dataclass(frozen=True)
class Person:
    """The owner of a tenant, signed in, with a key for all that services do."""

    tenant: str
    user: str
    token: str
    key: str


class House:
    """`cordee up --model oracle` in a directory, with as many services processes as told."""

    def __init__(
        self, directory: Path, settings: str = "", token_s: float = 0.05, processes: int = 2, disk_bytes: int = 0
    ) -> None:
        self.data = directory / "data"
        self.data.mkdir()
        self._entered = bool(disk_bytes)
        self.config = directory / "cordee.toml"
        self.config.write_text(QUICK.format(token_s=token_s, processes=processes) + settings)
        self.port, mobile = free_port(), free_port()
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("CORDEE_")}
        self.output = directory / "output"
        with self.output.open("wb") as output:
            self.up = subprocess.Popen(
                [*(_on_a_disk_of(disk_bytes, self.data) if disk_bytes else ()), sys.executable, "-P", "-m", "cordee.cli", "up",
                 "--model", "oracle", "--servers", "1", *self._where,
                 "--web", f"127.0.0.1:{self.port}", "--mobile", f"127.0.0.1:{mobile}"],
                stdout=output, stderr=output, env=self._environment,
            )  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def _where(self) -> tuple[str, ...]:
        return "--data", str(self.data), "--config", str(self.config)

    def command(self, *words: str, said: str = "") -> str:
        """What `cordee …` prints."""
        done = self.tried(*words, said=said)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tried(self, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.inside, sys.executable, "-P", "-m", "cordee.cli", *words, "--data", str(self.data)],
            input=said, env=self._environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    @property
    def inside(self) -> tuple[str, ...]:
        """What a command begins with that is to see the platform's own disk."""
        return ("nsenter", "-m", "-t", str(self.up.pid)) if self._entered else ()

    @property
    def seen(self) -> Path:
        """The data directory as it is seen from here."""
        return Path(f"/proc/{self.up.pid}/root{self.data}") if self._entered else self.data

    def wait_ready(self) -> None:
        until(self._is_ready, "the platform is ready", PATIENCE_S)

    def _is_ready(self) -> bool:
        assert self.up.poll() is None, self.output.read_text()
        return "ready" in self.output.read_text().splitlines()

    def status(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.command("status", "--json"))
        return said

    def wait_whole(self) -> None:
        """Until everything that was killed is there again."""
        until(lambda: self.status()["state"] == "ready", "the platform is whole", PATIENCE_S)

    def pids(self, role: str) -> dict[str, int]:
        return {one["name"]: one["pid"] for one in self.status()["processes"] if one["role"] == role and one["pid"]}

    def begin(self, method: str, path: str, key: str = "", body: Any = None) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse()

    def ask(self, method: str, path: str, key: str = "", body: Any = None) -> tuple[int, Any]:
        response = self.begin(method, path, key, body)
        said = response.read()
        return response.status, json.loads(said) if said.startswith(b"{") else said.decode()

    def ok(self, method: str, path: str, key: str = "", body: Any = None) -> Any:
        status, said = self.ask(method, path, key, body)
        assert status == 200, said
        return said

    def operator(self) -> Person:
        """The first owner, who runs the installation."""
        self.command("accounts", "create-owner", "ada@example.com", "--config", str(self.config), said=PASSWORD + "\n")
        return self.person("ada@example.com")

    def tenant(self, operator: Person, name: str) -> Person:
        """A further tenant's owner."""
        owner = {"email": f"owner@{name}.example", "name": name, "password": PASSWORD}
        self.ok("POST", "/v1/tenants", operator.token, {"name": name, "owner": owner})
        return self.person(owner["email"])

    def person(self, email: str) -> Person:
        token = self.ok("POST", "/v1/auth/login", body={"email": email, "password": PASSWORD})["access_token"]
        me = self.ok("GET", "/v1/auth/me", token)
        return Person(me["tenant"], me["id"], token, self.key(token)["key"])

    def key(self, token: str, **more: Any) -> dict[str, Any]:
        """One that the gateways know."""
        scopes = ["inference", *SCOPES]
        made: dict[str, Any] = self.ok("POST", "/v1/api_keys", token, {"name": "k", "scopes": scopes, **more})
        until(lambda: self.knows(made["key"]), "the gateway knows the key", PATIENCE_S)
        return made

    def knows(self, key: str) -> bool:
        return self.ask("GET", "/v1/models", key)[0] == 200

    def client(self, key: str, retries: int = 0) -> openai.OpenAI:
        return openai.OpenAI(api_key=key, base_url=self.url, max_retries=retries, timeout=PATIENCE_S)

    def end(self) -> None:
        end(self.up, PATIENCE_S)


def _on_a_disk_of(size: int, data: Path) -> tuple[str, ...]:
    """What a command begins with that has a small disk of its own at `data`, gone with it."""
    return "unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size={size} none "$0" && exec "$@"', str(data)


@contextmanager
def running(
    directory: Path, settings: str = "", token_s: float = 0.05, processes: int = 2, disk_bytes: int = 0
) -> Iterator[House]:
    """Ended with the block, whatever happens in it. `disk_bytes`: the data directory is a disk of this size; needs root."""
    house = House(directory, settings, token_s, processes, disk_bytes)
    try:
        house.wait_ready()
        yield house
    finally:
        house.end()


class Receiver:
    """A server of a user's, that webhooks are sent to. `received`: bodies with their headers."""

    def __init__(self) -> None:
        received: list[tuple[str, dict[str, str]]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"])).decode()
                received.append((body, {name.lower(): value for name, value in self.headers.items()}))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.received = received
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
