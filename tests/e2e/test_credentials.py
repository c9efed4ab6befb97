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
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from cordee.cli.login import device_login
from cordee.wire.vouch import HEADER, TO_GATEWAYS, Vouched, vouch
from tests.e2e.test_overflow import NEVER, body, configuration
from tests.rehearsal.provider import KEY as PROVIDER_KEY
from tests.rehearsal.provider import Provider
from tests.rig import Rig, oracle_text, until

pytestmark = pytest.mark.e2e
OWNER, PASSWORD = "ada@example.com", "correct horse"
TOKENS, SEED = 4000, 7
CHAT = "/v1/chat/completions"
REVOKED_S = 30.0


class Installation:
    """A worker, a mobile gateway and a services process in one directory, and a provider outside for when there is no worker."""

    def __init__(self, directory: Path, provider: Provider) -> None:
        self.provider = provider
        (directory / "cordee.toml").write_text(configuration(provider.url, NEVER))
        self.socket = directory / "services.sock"
        made = self.command(directory, "accounts", "create-owner", OWNER, said=PASSWORD + "\n")
        assert made.returncode == 0, made.stderr
        self.rig = Rig(
            directory, workers=1, kind="mobile", gateway_flags=("--services", f"unix:{self.socket}"),
            environment={"PROVIDER_KEY": PROVIDER_KEY},
        )  # fmt: skip
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

    def begin(
        self,
        method: str,
        path: str,
        token: str = "",
        body: Any = None,
        gateway: int = 0,
        more: dict[str, str] | None = None,
    ) -> HTTPResponse:
        """`more`: headers."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        headers |= more or {}
        connection = HTTPConnection("127.0.0.1", self.rig.ports[gateway], timeout=60)
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection.getresponse()

    def ok(self, method: str, path: str, token: str = "", body: Any = None) -> Any:
        status, said = self.ask(method, path, token, body)
        assert status == 200, said
        return said

    def login(self, email: str = OWNER, password: str = PASSWORD) -> str:
        return str(self.ok("POST", "/v1/auth/login", body={"email": email, "password": password})["access_token"])

    def key(self, owner: str, **more: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.ok("POST", "/v1/api_keys", owner, {"name": "k", "scopes": ["inference"], **more})
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
    with Provider() as provider:
        yield from _installed(Installation(tmp_path_factory.mktemp("credentials"), provider))


def _installed(made: Installation) -> Iterator[Installation]:
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
        asked = call(stream=True)
        asked.pop("stream")
        socket.send(json.dumps({"type": "call.create", "id": "a", "request": asked}))
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


def test_two_keys_of_a_tenant_share_what_is_the_tenants(house: Installation):
    operator = house.login()
    owner = {"email": "eve@example.com", "name": "Eve", "password": PASSWORD}
    limits = {"budgets": [{"period": "day", "tokens": 40}]}
    house.ok("POST", "/v1/tenants", operator, {"name": "Elsewhere", "owner": owner, "limits": limits})
    theirs = house.login(owner["email"])
    first, second = house.key(theirs), house.key(theirs)
    answers = [house.ask("POST", CHAT, first["key"], call(stream=False, tokens=8)) for _ in range(6)]
    assert answers[0][0] == 200
    for shown in (first["key"], second["key"], theirs):
        status, said = house.ask("POST", CHAT, shown, call(stream=False, tokens=8))
        assert (status, said["error"]["code"]) == (429, "insufficient_quota")
    assert house.ask("POST", CHAT, house.key(operator)["key"], call(stream=False, tokens=8))[0] == 200


def test_a_key_for_batch_work_is_never_served_as_interactive(house: Installation):
    owner = house.login()
    batch, usual = house.key(owner, priority_max="batch"), house.key(owner)

    def served(key: dict[str, Any], wish: str) -> tuple[int, str | None]:
        asked = call(stream=False, tokens=4)
        answer = house.begin("POST", CHAT, key["key"], asked, more={"X-Cordee-Priority": wish})
        answer.read()
        return answer.status, answer.headers["X-Cordee-Priority"]  # says what a call was lowered to

    for wish in ("interactive", "standard"):
        assert served(batch, wish) == (200, "batch")
        assert served(usual, wish) == (200, None)
    house.ok("POST", f"/v1/api_keys/{batch['id']}", owner, {"priority_max": "interactive"})
    until(lambda: served(batch, "interactive") == (200, None), "the gateway has heard of it")


def test_calls_of_a_key_that_is_local_only_never_leave_and_others_do(house: Installation):
    owner = house.login()
    local, usual = house.key(owner, local_only=True), house.key(owner)
    house.rig.kill_worker(0)
    until(lambda: house.rig.ready_replicas() == 0, "the worker is missed")
    try:
        for said in ({}, {"X-Cordee-Local-Only": "0"}):
            answer = house.begin("POST", CHAT, local["key"], body(), more={"X-Request-Timeout": "0.5", **said})
            assert answer.status in (503, 504), answer.read()
            answer.read()
        assert house.provider.seen() == []
        answer = house.begin("POST", CHAT, usual["key"], body())
        assert (answer.status, answer.headers["X-Cordee-Served-By"]) == (200, "cloud/outer"), answer.read()
        answer.read()
    finally:
        house.rig.restart_worker(0)
        house.rig.wait_ready()


def test_a_key_may_the_same_wherever_it_is_shown(house: Installation):
    """At the gateway, through it at a service, at accounts that look themselves, and for a WebSocket."""
    owner = house.login()
    key, other = house.key(owner)["key"], house.key(owner)["key"]

    def seen(query: str = "", **shown: str) -> list[int]:
        headers = {name.replace("_", "-"): value for name, value in shown.items()}
        found = []
        for path in ("/v1/models", "/v1/files", "/v1/auth/me"):
            answer = house.begin("GET", path + query, more=headers)
            answer.read()
            found.append(answer.status)
        return found

    may = [200, 403, 200]  # it holds no scope but `inference`
    assert seen(Authorization=f"Bearer {key}") == may
    for shown in ({"X_Api_Key": key}, {"Api_Key": key}, {"Authorization": f"Bearer {key}", "X_Api_Key": key}):
        assert seen(**shown) == may, list(shown)
    for shown in ({"Authorization": f"Bearer {key}", "X_Api_Key": other}, {"X_Api_Key": key, "Api_Key": other}):
        assert seen(**shown) == [400] * 3, list(shown)
    assert seen(f"?api_key={key}&key={key}") == [401] * 3
    uri = f"ws://127.0.0.1:{house.rig.ports[0]}/v1/realtime/chat"

    def handshake(*offered: str, **headers: str) -> int:
        try:
            with connect(uri, subprotocols=[Subprotocol(one) for one in offered], additional_headers=headers):
                return 101
        except InvalidStatus as error:
            return error.response.status_code

    assert handshake("cordee.v1", f"bearer.{key}") == 101
    assert handshake("cordee.v1", f"bearer.{key}", Authorization=f"Bearer {other}") == 400
    assert handshake("cordee.v1", f"bearer.{key}x") == 401


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
    assert status(header[:-2] + ("AA" if header[-2:] != "AA" else "BA")) == 401
    assert status(vouch(asked, TO_GATEWAYS, secret, time.time() - 61)) == 401
    house.ok("DELETE", f"/v1/api_keys/{key['id']}", owner)
    until(lambda: status(header) == 401, "the same head is refused", REVOKED_S)
    connection.close()


def test_who_is_known_is_served_while_accounts_are_dead_also_by_a_gateway_that_starts_then(house: Installation):
    owner = house.login()
    key = house.key(owner)
    state = house.rig.directory / "services" / "credentials.sealed"
    until(lambda: state.exists() and key["id"].encode() in state.read_bytes(), "what is known was written down")
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
