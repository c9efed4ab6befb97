"""Keys and tokens of accounts at real gateways: known without a restart, while accounts are dead, and refused within seconds."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from cordee.cli.login import device_login
from cordee.wire.vouch import HEADER, TO_GATEWAYS, Vouched, vouch
from tests.rig import Rig, oracle_text, until

pytestmark = pytest.mark.e2e
OWNER, PASSWORD = "ada@example.com", "correct horse"
TOKENS, SEED = 4000, 7
CHAT = "/v1/chat/completions"
REVOKED_S = 30.0


class Installation:
    """A worker, a mobile gateway and a services process in one directory."""

    def __init__(self, directory: Path) -> None:
        self.socket = directory / "services.sock"
        made = self.command(directory, "accounts", "create-owner", OWNER, said=PASSWORD + "\n")
        assert made.returncode == 0, made.stderr
        self.rig = Rig(directory, workers=1, kind="mobile", gateway_flags=("--services", f"unix:{self.socket}"))
        self.services = self.start_services()

    @staticmethod
    def command(directory: Path, *words: str, said: str = "") -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "CORDEE_ADMIN_KEY"}
        return subprocess.run(
            [sys.executable, "-m", "cordee.cli", *words, *(("--data", str(directory)) if words[0] == "accounts" else ())],
            input=said, capture_output=True, text=True, timeout=60, check=False,
            env=environment | {"XDG_CONFIG_HOME": str(directory / "config")},
        )  # fmt: skip

    def start_services(self) -> subprocess.Popen[bytes]:
        listen = ("--listen", f"unix:{self.socket}", "--gateway", f"127.0.0.1:{self.rig.ports[0]}")
        directory = self.rig.directory
        with (directory / "services.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "cordee.cli", "services", *listen, "--data", str(directory)],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=directory,
            )  # fmt: skip

    def ask(self, method: str, path: str, token: str = "", body: Any = None, gateway: int = 0) -> tuple[int, Any]:
        response = self.begin(method, path, token, body, gateway)
        said = response.read()
        return response.status, json.loads(said) if said else None

    def begin(self, method: str, path: str, token: str = "", body: Any = None, gateway: int = 0) -> HTTPResponse:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        connection = HTTPConnection("127.0.0.1", self.rig.ports[gateway], timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse()

    def ok(self, method: str, path: str, token: str = "", body: Any = None) -> Any:
        status, said = self.ask(method, path, token, body)
        assert status == 200, said
        return said

    def login(self, email: str = OWNER, password: str = PASSWORD) -> str:
        return str(self.ok("POST", "/v1/auth/login", body={"email": email, "password": password})["access_token"])

    def key(self, owner: str) -> dict[str, Any]:
        made: dict[str, Any] = self.ok("POST", "/v1/api_keys", owner, {"name": "k", "scopes": ["inference"]})
        until(lambda: self.knows(made["key"]), "the gateway knows the key")
        return made

    def knows(self, key: str) -> bool:
        return self.ask("GET", "/v1/models", key)[0] == 200


def call(stream: bool, tokens: int = TOKENS) -> dict[str, Any]:
    messages = [{"role": "user", "content": "hello"}]
    return {
        "model": "oracle",
        "messages": messages,
        "max_tokens": tokens,
        "seed": SEED,
        "ignore_eos": True,
        "stream": stream,
    }


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = Installation(tmp_path_factory.mktemp("credentials"))
    with made.rig:
        try:
            until(lambda: made.ask("GET", "/.well-known/jwks.json")[0] == 200, "accounts answer through the gateway")
            yield made
        finally:
            made.services.kill()
            made.services.wait()


def test_a_revoked_keys_stream_ends_with_an_error_and_others_go_on(house: Installation):
    owner = house.login()
    key, other = house.key(owner), house.key(owner)
    streams = [house.begin("POST", CHAT, one["key"], call(stream=True)) for one in (key, other)]
    heard: list[list[bytes]] = [[], []]

    def listen(number: int) -> None:
        with contextlib.suppress(OSError, AttributeError):  # a connection that is closed below while it is read
            heard[number].extend(streams[number])

    readers = [threading.Thread(target=listen, args=(number,), daemon=True) for number in range(2)]
    for reader in readers:
        reader.start()
    until(lambda: all(len(lines) > 4 for lines in heard), "both streams began")
    house.ok("DELETE", f"/v1/api_keys/{key['id']}", owner)
    began = time.monotonic()
    readers[0].join(REVOKED_S)
    assert not readers[0].is_alive(), "the stream goes on"
    print(f"revoked after {time.monotonic() - began:.2f} s")
    assert b'"key_revoked"' in b"".join(heard[0])
    assert house.ask("GET", "/v1/models", key["key"])[0] == 401
    assert readers[1].is_alive()
    house.ok("DELETE", f"/v1/api_keys/{other['id']}", owner)


def test_signing_out_ends_what_the_token_began_and_no_other_signing_in(house: Installation):
    first, second = house.login(), house.login()
    until(lambda: house.knows(first) and house.knows(second), "the gateway knows both")
    stream = house.begin("POST", CHAT, first, call(stream=True))
    assert stream.status == 200
    assert stream.readline()
    house.ok("POST", "/v1/auth/logout", first)
    assert b'"key_revoked"' in stream.read()
    until(lambda: not house.knows(first), "the token is refused")
    assert house.knows(second)


def test_a_websocket_ends_with_its_key(house: Installation):
    owner = house.login()
    key = house.key(owner)
    uri = f"ws://127.0.0.1:{house.rig.ports[0]}/v1/realtime/chat"
    headers = {"Authorization": f"Bearer {key['key']}"}
    with connect(uri, additional_headers=headers, subprotocols=[Subprotocol("cordee.v1")]) as socket:
        body = call(stream=True)
        body.pop("stream")
        socket.send(json.dumps({"type": "call.create", "id": "a", "request": body}))
        assert "call.created" in str(socket.recv(30))
        house.ok("DELETE", f"/v1/api_keys/{key['id']}", owner)
        heard: list[str] = []

        def listen() -> None:
            while True:
                heard.append(str(socket.recv(REVOKED_S)))

        with pytest.raises(ConnectionClosed) as closed:
            listen()
        assert "key_revoked" in heard[-1]
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


def test_a_keys_limits_count_at_the_gateway(house: Installation):
    owner = house.login()
    limits = {"budgets": [{"period": "day", "tokens": 40}]}
    key = house.ok("POST", "/v1/api_keys", owner, {"name": "k", "scopes": ["inference"], "limits": limits})["key"]
    until(lambda: house.knows(key), "the gateway knows the key")
    answers = [house.ask("POST", CHAT, key, call(stream=False, tokens=8)) for _ in range(6)]
    assert answers[0][0] == 200
    assert (answers[-1][0], answers[-1][1]["error"]["code"]) == (429, "insufficient_quota")


def test_a_service_asks_on_behalf_of_a_key_as_long_as_the_key_is_there(house: Installation):
    owner = house.login()
    key = house.key(owner)
    secret = (house.rig.directory / "services" / "internal.secret").read_bytes()
    asked = Vouched(key["tenant"], key["id"], key["owner"], frozenset({"inference"}))
    connection = HTTPConnection("127.0.0.1", house.rig.ports[0], timeout=60)

    def status(value: str) -> int:
        connection.request("GET", "/v1/models", headers={HEADER: value})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    header = vouch(asked, TO_GATEWAYS, secret, time.time())
    assert [status(header) for _ in range(3)] == [200] * 3
    assert status(header[:-2] + "AA") == 401
    assert status(vouch(asked, TO_GATEWAYS, secret, time.time() - 61)) == 401
    house.ok("DELETE", f"/v1/api_keys/{key['id']}", owner)
    until(lambda: status(header) == 401, "the same head is refused", REVOKED_S)
    connection.close()


def test_who_is_known_is_served_while_accounts_are_dead_also_by_a_gateway_that_starts_then(house: Installation):
    owner = house.login()
    key = house.key(owner)
    state = house.rig.directory / "services" / "credentials.sealed"
    until(lambda: key["id"].encode() in state.read_bytes(), "what is known was written down")
    house.services.kill()
    house.services.wait()
    assert house.knows(key["key"])
    assert house.knows(owner)
    house.rig.gateways[0].kill()
    house.rig.gateways[0].wait()
    house.rig.gateways[0] = house.rig._start_gateway(0)
    house.rig.wait_ready()
    assert house.knows(key["key"])
    assert house.knows(owner)
    _, answer = house.ask("POST", CHAT, key["key"], call(stream=False, tokens=8))
    assert answer["choices"][0]["message"]["content"] == oracle_text(SEED, 8)
    assert house.ask("POST", "/v1/auth/login", body={"email": OWNER, "password": PASSWORD})[0] == 503
    house.services = house.start_services()
    until(lambda: house.ask("GET", "/.well-known/jwks.json")[0] == 200, "accounts are back")
    house.ok("DELETE", f"/v1/api_keys/{key['id']}", house.login())
    until(lambda: not house.knows(key["key"]), "the key is refused", REVOKED_S)


def test_the_command_line_signs_in_by_a_device_code_and_out_again(house: Installation):
    base = f"http://127.0.0.1:{house.rig.ports[0]}"
    told: list[str] = []

    def allow(_seconds: float) -> None:
        if len(told) == 1:
            code = told[0].split()[-1]
            told.append(house.ok("POST", "/v1/auth/devices", house.login(), {"user_code": code, "allow": True}))

    sign_in = device_login(base, "", told.append, allow)
    me = house.ok("GET", "/v1/auth/me", sign_in.access)
    assert me["role"] == "owner"
    until(lambda: house.knows(sign_in.access), "the gateway knows the token")
    where = house.rig.directory / "config" / "cordee"
    from cordee.cli.signed_in import current, store  # noqa: PLC0415

    store(where, sign_in)
    assert (where / "login.json").stat().st_mode & 0o777 == 0o600
    renewed = current(where, sign_in.ends_s)
    assert renewed.refresh != sign_in.refresh
    shown = house.command(house.rig.directory, "whoami")
    assert me["id"] in shown.stdout, shown.stderr
    assert house.command(house.rig.directory, "logout").stdout == "signed out\n"
    assert house.command(house.rig.directory, "whoami").returncode == 1
    until(lambda: not house.knows(renewed.access), "the token is refused")


def test_there_is_one_first_owner(house: Installation):
    again = house.command(house.rig.directory, "accounts", "create-owner", "eve@example.com", said="\n")
    assert again.returncode == 1
    assert "There are tenants already" in again.stderr
