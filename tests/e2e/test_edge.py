"""The whole platform behind TLS: every protocol streams a chat, floods end only the connection they come on, certificates rotate,
browsers sign in, and the configuration is taken anew, all under streams that lose nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import grpc
import h2.connection
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from cordee.adapters import pki
from cordee.adapters.link_tls import trust_file
from cordee.supervisor.asking import ask_reload
from tests.compose.test_platform import Running, cordee, gone
from tests.e2e.h3 import client as h3_client
from tests.rig import oracle_text, until

pytestmark = pytest.mark.e2e

SEED = 77
TOKENS = 40
STREAMED = 200  # tokens where it is seen that they come bit by bit: a second in which nobody reads is not all of them
STREAMS = 20
HOST = "127.0.0.1"
RELOAD_FILE = "cordee.toml"


class Platform(Running):
    """A running platform whose edge serves a given certificate."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.pem = home / "edge.pem"
        self.serve(home / "first")
        (home / "data").mkdir()
        self.file = home / "data" / RELOAD_FILE
        self.write("")
        super().__init__(home / "data")

    def serve(self, authority: Path) -> None:
        """A certificate of another authority stands where the platform looks for its own from now on."""
        made = pki.ensure_edge(authority, ["localhost", HOST])
        new = self.home / "new.pem"
        new.write_bytes(made.read_bytes())
        new.chmod(0o600)
        new.replace(self.pem)
        self.trusted = trust_file(authority)

    def write(self, more: str) -> None:
        tls = f'[edge.tls]\nenabled = true\ncertificate = "{self.pem}"\nkey = "{self.pem}"\n'
        self.file.write_text(tls + more)

    @property
    def key(self) -> str:
        return (self.data / "admin.key").read_text().strip()

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def port(self, address: str) -> int:
        return int(address.rpartition(":")[2])

    def url(self, address: str = "") -> str:
        return f"https://localhost:{self.port(address or self.web)}"

    def tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.trusted))

    def client(self, *, http2: bool = True, signed: bool = True) -> httpx.Client:
        headers = self.headers if signed else {}
        return httpx.Client(http2=http2, verify=self.tls(), base_url=self.url(), headers=headers, timeout=30)

    def served(self) -> bytes:
        """The certificate that a new connection is shown."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with closing(socket.create_connection((HOST, self.port(self.web)), 5)) as raw, context.wrap_socket(raw) as tls:
            shown = tls.getpeercert(binary_form=True)
            assert shown
            return shown


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with Platform(tmp_path_factory.mktemp("edge")) as running:
        yield running


def chat(tokens: int = TOKENS, *, stream: bool = True, seed: int = SEED) -> dict[str, object]:
    messages = [{"role": "user", "content": "hello"}]
    return {
        "model": "oracle", "messages": messages, "max_tokens": tokens, "seed": seed, "ignore_eos": True, "stream": stream,
    }  # fmt: skip


def text_of(body: bytes) -> str:
    assert body.rstrip().endswith(b"data: [DONE]")
    events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    return "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])


@pytest.mark.parametrize("http2", [False, True])
def test_a_chat_streams_over_http_1_and_2(platform: Platform, http2: bool) -> None:
    with (
        platform.client(http2=http2) as client,
        client.stream(
            "POST", "/v1/chat/completions", json=chat(STREAMED), headers={"Accept-Encoding": "gzip, br, zstd"}
        ) as answer,
    ):
        assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert answer.headers["alt-svc"].startswith(f'h3=":{platform.port(platform.web)}"')
        assert "content-encoding" not in answer.headers  # an event stream is never compressed
        pieces = list(answer.iter_raw())
    assert text_of(b"".join(pieces)) == oracle_text(SEED, STREAMED)
    assert len(pieces) > STREAMED / 4, "it did not come as a stream"


def test_a_chat_streams_over_http_2_for_curl(platform: Platform) -> None:
    asked = subprocess.run(
        ["curl", "-sS", "--http2", "--cacert", str(platform.trusted), "-H", "@-", "-d", json.dumps(chat()),
         "-w", "%{http_version}", f"{platform.url()}/v1/chat/completions"],
        input=f"Authorization: Bearer {platform.key}\nContent-Type: application/json\n".encode(),
        capture_output=True, timeout=30, check=True,
    )  # fmt: skip
    assert asked.stdout.endswith(b"2")
    assert text_of(asked.stdout[:-1]) == oracle_text(SEED, TOKENS)


def test_a_chat_streams_over_http_3_on_both_addresses(platform: Platform) -> None:
    async def ask(address: str) -> None:
        async with h3_client(platform.port(address), platform.trusted) as client:
            headers = {**platform.headers, "content-type": "application/json"}
            answer = await client.ask("POST", "/v1/chat/completions", headers, json.dumps(chat(STREAMED)).encode())
            assert answer.status == 200
            assert text_of(answer.body) == oracle_text(SEED, STREAMED)
            assert len(answer.pieces) > STREAMED / 4, "it did not come as a stream"
            several = await asyncio.gather(*(client.ask("GET", "/v1/models", platform.headers) for _ in range(20)))
            assert {one.status for one in several} == {200}

    asyncio.run(ask(platform.web))
    asyncio.run(ask(platform.mobile))


def test_json_is_compressed_for_those_who_ask_and_for_nobody_else(platform: Platform) -> None:
    asked = chat(100, stream=False)
    with platform.client() as client:
        plain = client.post("/v1/chat/completions", json=asked, headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        for coding in ("gzip", "br", "zstd"):
            with client.stream(
                "POST", "/v1/chat/completions", json=asked, headers={"Accept-Encoding": coding}
            ) as answer:
                raw = b"".join(answer.iter_raw())
            assert answer.headers["content-encoding"] == coding
            assert len(raw) < len(plain.content)
            if coding == "gzip":
                assert json.loads(gzip.decompress(raw))["choices"] == plain.json()["choices"]


class Raw:
    """HTTP/2 by hand: frames that no well-behaved client sends."""

    def __init__(self, platform: Platform) -> None:
        context = platform.tls()
        context.set_alpn_protocols(["h2"])
        raw = socket.create_connection((HOST, platform.port(platform.web)), 10)
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        self.http = h2.connection.H2Connection()
        self.http.initiate_connection()
        self.send()

    def send(self, data: bytes = b"") -> bool:
        """False when the edge has closed the connection."""
        try:
            self.socket.sendall(data or self.http.data_to_send())
        except OSError:
            return False
        return True

    def closed(self) -> bool:
        """Read until the end; whether there was one."""
        self.socket.settimeout(30)
        try:
            while self.socket.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True


HEAD = [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/healthz")]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def rapid_reset(raw: Raw) -> None:
    for _ in range(1000):
        stream = raw.http.get_next_available_stream_id()
        raw.http.send_headers(stream, HEAD, end_stream=True)
        raw.http.reset_stream(stream)
        if not raw.send():
            return


def continuation_flood(raw: Raw) -> None:
    raw.send(frame(1, 0, 1, b"\x82"))  # HEADERS that are not the end of the headers, and never will be
    for _ in range(2000):
        if not raw.send(frame(9, 0, 1, b"\x00\x01a\x7f\x80\x01" + b"b" * 255)):
            return


def settings_flood(raw: Raw) -> None:
    for _ in range(100):
        if not raw.send(frame(4, 0, 0) * 1000):
            return


def ping_flood(raw: Raw) -> None:
    for _ in range(100):
        if not raw.send(frame(6, 0, 0, b"\x00" * 8) * 1000):
            return


def empty_data_flood(raw: Raw) -> None:
    stream = raw.http.get_next_available_stream_id()
    raw.http.send_headers(stream, [(":method", "POST"), *HEAD[1:]])
    raw.send()
    for _ in range(1000):
        if not raw.send(frame(0, 0, stream)):
            return


@pytest.mark.parametrize("flood", [rapid_reset, continuation_flood, settings_flood, ping_flood, empty_data_flood])
def test_a_flood_ends_its_own_connection_and_nobody_elses(platform: Platform, flood: Callable[[Raw], None]) -> None:
    with platform.client() as other, other.stream("POST", "/v1/chat/completions", json=chat()) as answer:
        raw = Raw(platform)
        raw.socket.setblocking(True)
        raw.socket.settimeout(5)
        flood(raw)
        assert raw.closed(), "the flood is put up with"
        assert text_of(answer.read()) == oracle_text(SEED, TOKENS)
        assert other.get("/v1/models").status_code == 200


def test_a_browser_signs_in_and_any_web_gateway_serves_it(platform: Platform) -> None:
    made = cordee("keys", "create", "browser", "--data", str(platform.data))
    key = next(word for word in (made.stdout + made.stderr).split() if word.startswith("ck-"))
    with platform.client(signed=False) as browser:

        def looks(headers: dict[str, str] | None = None) -> set[int]:
            """What a few requests get, which are enough to meet every gateway."""
            return {browser.get("/v1/models", headers=headers).status_code for _ in range(8)}

        until(lambda: looks({"X-Api-Key": key}) == {200}, "the key to be known")
        begun = browser.post("/v1/sessions", headers={"Authorization": f"Bearer {key}"})
        assert begun.status_code == 201
        cookie = begun.headers["set-cookie"]
        assert cookie.startswith("__Host-cordee=")
        assert {"Path=/", "HttpOnly", "SameSite=Strict", "Secure"} <= set(cookie.split("; "))
        assert key not in begun.text + cookie

        own = {"Sec-Fetch-Site": "same-origin"}
        for headers, status in (
            ({}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Origin": "https://evil.example"}, 403),
            (own, 200),
            ({"Origin": platform.url()}, 200),
            ({"X-CSRF-Token": begun.json()["csrf_token"]}, 200),
            ({"X-CSRF-Token": "guess"}, 403),
        ):
            assert (
                browser.post("/v1/chat/completions", json=chat(3, stream=False), headers=headers).status_code == status
            )
        assert browser.get("/v1/models").status_code == 200

        victim = platform.pids()["web-1"]
        os.kill(victim, signal.SIGKILL)  # whichever gateway had made it: the other one serves it
        assert gone({"web-1": victim}, 5.0) == {}
        # A request that meets the connection at the moment of its death is told so; from then on none is lost.
        until(lambda: browser.get("/v1/models").status_code == 200, "the edge to notice")
        for _ in range(6):
            answer = browser.post("/v1/chat/completions", json=chat(5), headers=own)
            assert text_of(answer.content) == oracle_text(SEED, 5)
        mobile = httpx.get(f"{platform.url(platform.mobile)}/v1/models", verify=platform.tls(), cookies=browser.cookies)
        assert mobile.status_code == 401

        until(lambda: platform.status()["state"] == "ready", "the killed gateway to be back")
        kept = dict(browser.cookies)
        assert browser.delete("/v1/sessions", headers=own).json()["deleted"] is True
        assert not dict(browser.cookies)
        again = {"Cookie": "; ".join(f"{name}={value}" for name, value in kept.items())}
        until(lambda: looks(again) == {401}, "its end everywhere")

        browser.post("/v1/sessions", headers={"Authorization": f"Bearer {key}"})
        assert browser.get("/v1/models").status_code == 200
        identity = next(line.split()[0] for line in cordee("keys", "list", "--data", str(platform.data)).stdout.splitlines()
                        if " browser" in line)  # fmt: skip
        assert cordee("keys", "revoke", identity, "--data", str(platform.data)).returncode == 0
        until(lambda: looks() == {401}, "the revoked key", 5)


class Streams:
    """Streams through the edge in threads of their own; each is checked token by token."""

    def __init__(self, platform: Platform, count: int, tokens: int) -> None:
        self.failures: list[str] = []
        self.begun = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._one, args=(platform, SEED + n, tokens)) for n in range(count)]
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            assert self.begun.acquire(timeout=20), f"a stream did not begin: {self.failures}"

    def _one(self, platform: Platform, seed: int, tokens: int) -> None:
        try:
            with (
                platform.client(http2=seed % 2 == 0) as client,
                client.stream("POST", "/v1/chat/completions", json=chat(tokens, seed=seed)) as answer,
            ):
                pieces: list[bytes] = []
                for piece in answer.iter_raw():
                    if not pieces:
                        self.begun.release()
                    pieces.append(piece)
            if text_of(b"".join(pieces)) != oracle_text(seed, tokens):
                self.failures.append(f"seed {seed}: other tokens")
        except Exception as error:
            self.failures.append(f"seed {seed}: {error!r}")

    def running(self) -> int:
        return sum(thread.is_alive() for thread in self._threads)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
        assert self.failures == []


def test_streams_lose_nothing_across_reloads_of_which_one_is_bad(platform: Platform) -> None:
    pids = platform.pids()
    streams = Streams(platform, STREAMS, 2000)  # twenty seconds: a command alone takes some when the cores are busy
    for attempts in (4, 5, 6):
        platform.write(f"[retry]\nattempts_max = {attempts}\n[queue]\nwait_s_max = {attempts}\n")
        answer = ask_reload(platform.data)
        assert (answer.error, answer.taken, answer.late) == ("", ["queue.wait_s_max", "retry.attempts_max"], [])
    platform.write('[retry]\nattempts_max = 7\n[queue]\nwait_s_max = "long"\n')
    refused = cordee("reload", "--data", str(platform.data))
    assert refused.returncode == 1
    assert f"{platform.file}, line 8: queue.wait_s_max" in refused.stderr
    platform.write("[engine]\nubatch = 64\n")
    platform.up.send_signal(signal.SIGHUP)
    until(lambda: "needs-a-restart=engine.ubatch" in platform.output.read_text(), "the fifth reload")
    assert streams.running() == STREAMS, "they ended before the reloads did: nothing was shown"
    streams.join()
    assert platform.pids() == pids


def test_a_new_certificate_is_served_without_a_drop_and_a_broken_one_never(platform: Platform) -> None:
    before = platform.served()
    streams = Streams(platform, 4, 700)
    platform.pem.write_text("-----BEGIN CERTIFICATE-----\nhalf of one")
    until(lambda: "certificate-refused" in platform.output.read_text(), "the refusal")
    assert platform.served() == before
    platform.serve(platform.home / "second")
    until(lambda: platform.served() != before, "the new certificate")
    with platform.client() as client:
        assert client.get("/v1/models").status_code == 200  # by the new authority
    streams.join()


def test_chat_and_status_find_their_way_over_tls(platform: Platform) -> None:
    status = platform.status()
    assert status["web"] == f"https://{platform.web}/v1"
    asked = cordee("chat", "--data", str(platform.data), "--max-tokens", "5", "--seed", str(SEED), "hello")
    assert asked.returncode == 0, asked.stderr
    assert oracle_text(SEED, 5, ignore_eos=False).strip()[:9] in asked.stdout


def test_web_sockets_and_grpc_pass_the_mobile_address_and_no_other(platform: Platform) -> None:
    def status(address: str, path: str) -> bytes:
        with (
            closing(socket.create_connection((HOST, platform.port(address)), 10)) as raw,
            platform.tls().wrap_socket(raw, server_hostname="localhost") as tls,
        ):
            tls.sendall(
                f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                f"Authorization: Bearer {platform.key}\r\n\r\n".encode()
            )
            return tls.recv(4096).split(b" ", 2)[1]

    assert status(platform.mobile, "/v1/realtime/chat") == b"101"
    assert status(platform.mobile, "/v1/models") != b"101"
    assert status(platform.web, "/v1/realtime/chat") != b"101"

    channel = grpc.secure_channel(
        f"localhost:{platform.port(platform.mobile)}", grpc.ssl_channel_credentials(platform.trusted.read_bytes())
    )
    with channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        served = check(health_pb2.HealthCheckRequest(service="cordee.v1.Chat"), timeout=20, wait_for_ready=True)
    assert served.status == health_pb2.HealthCheckResponse.SERVING
