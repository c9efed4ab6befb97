"""Real gateways before a real service: large bodies in both directions, events at once, dead and frozen services, clients that leave."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cordee.wire.vouch import TO_SERVICES, vouched
from tests.gateway.passage.tiny import EVENTS, PIECE
from tests.rig import HEADERS, KEY, Rig, until

pytestmark = pytest.mark.e2e
MIB = 256
GROWTH_BYTES_MAX = 16 << 20
PATIENCE_S = 30.0


class Services:
    """Small services, each at a socket of its own."""

    def __init__(self, directory: Path) -> None:
        self.notes = directory / "notes"
        self.notes.touch()
        self.sockets = [directory / "s1.sock", directory / "s2.sock"]
        self.processes: list[subprocess.Popen[bytes] | None] = [None, None]

    @property
    def flags(self) -> tuple[str, ...]:
        return tuple(flag for path in self.sockets for flag in ("--services", f"unix:{path}"))

    def start(self, number: int) -> int:
        self.sockets[number].unlink(missing_ok=True)
        command = (sys.executable, "-m", "tests.gateway.passage.tiny", str(self.sockets[number]), str(self.notes))
        process = self.processes[number] = subprocess.Popen(command)
        until(lambda: answers(self.sockets[number]), "the service answers")
        return process.pid

    def stop(self, number: int) -> None:
        process = self.processes[number]
        if process is not None:
            process.kill()
            process.wait()
        self.processes[number] = None


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


@pytest.fixture(scope="module")
def placed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Rig, Services]]:
    directory = tmp_path_factory.mktemp("passage")
    services = Services(directory)
    with Rig(directory, workers=1, gateway_flags=services.flags) as rig:
        yield rig, services
        for number in (0, 1):
            services.stop(number)


@pytest.fixture
def rig(placed: tuple[Rig, Services]) -> Rig:
    return placed[0]


@pytest.fixture
def services(placed: tuple[Rig, Services]) -> Services:
    """Both are there."""
    rig, services = placed
    for number in (0, 1):
        if services.processes[number] is None:
            services.start(number)
    until(lambda: rig.metric("cordee_services_living") == 2, "both services are there")
    return services


def connection(rig: Rig) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", rig.ports[0], timeout=PATIENCE_S)


def ask(
    rig: Rig, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any, Any]:
    client = connection(rig)
    client.request(method, path, body, headers or HEADERS)
    response = client.getresponse()
    data = response.read()
    is_json = "json" in response.headers.get("content-type", "")
    return response.status, response.headers, json.loads(data) if is_json and data else data


def resident(pid: int, what: str = "VmRSS") -> int:
    """In bytes."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) * 1024


def forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def pieces(mib: int, told: Any) -> Iterator[bytes]:
    for _ in range(mib * 16):
        told.update(PIECE)
        yield PIECE


@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_a_large_upload_leaves_nothing_in_the_gateway(rig, services, coding):
    told, gateway = hashlib.sha256(), rig.gateways[0].pid
    ask(rig, "POST", "/v1/files", pieces(1, hashlib.sha256()), {**HEADERS, "Content-Length": str(1 << 20)})
    forget_peak(gateway)
    before = resident(gateway)
    headers = {**HEADERS, "Content-Length": str(MIB << 20)} if coding == "length" else HEADERS
    client = connection(rig)
    client.request("POST", "/v1/files", pieces(MIB, told), headers, encode_chunked=coding == "chunked")
    answer = json.loads(client.getresponse().read())
    assert (answer["size"], answer["sha256"]) == (MIB << 20, told.hexdigest())
    assert resident(gateway, "VmHWM") - before <= GROWTH_BYTES_MAX


def test_a_large_download_leaves_nothing_in_the_gateway_however_slowly_it_is_read(rig, services):
    gateway = rig.gateways[0].pid
    ask(rig, "GET", "/v1/files/big?mib=1")
    forget_peak(gateway)
    before = resident(gateway)
    client = connection(rig)
    client.request("GET", f"/v1/files/big?mib={MIB}", headers=HEADERS)
    response = client.getresponse()
    assert response.headers["content-length"] == str(MIB << 20)
    until(lambda: resident(gateway, "VmHWM") > 0, "something has come")
    size = 0
    while data := response.read(1 << 20):
        size += len(data)
    assert size == MIB << 20
    assert resident(gateway, "VmHWM") - before <= GROWTH_BYTES_MAX


def test_events_come_one_by_one(rig, services):
    services.stop(1)  # the semaphore is in one process
    client = connection(rig)
    client.request("GET", "/v1/files/events", headers=HEADERS)
    response = client.getresponse()
    for number in range(EVENTS):
        assert response.readline() == b"data: %d\n" % number
        assert response.readline() == b"\n"
        assert ask(rig, "POST", "/v1/files/next")[0] == 204
    assert response.read() == b""


def test_ranges_and_heads_pass_as_they_are(rig, services):
    status, headers, body = ask(rig, "GET", "/v1/files/range", headers={**HEADERS, "Range": "bytes=2-4"})
    assert (status, headers["content-range"], headers["x-range"], body) == (206, "bytes 2-4/5", "bytes=2-4", b"llo")
    status, headers, body = ask(rig, "HEAD", "/v1/files/big?mib=7")
    assert (status, headers["content-length"], body) == (200, str(7 << 20), b"")


def test_the_gateway_vouches_for_the_caller_and_keeps_the_key(rig, services):
    forged = {**HEADERS, "Cookie": "a=b", "X-Forwarded-Proto": "https", "Traceparent": "00-a-b-01"}
    status, headers, answer = ask(rig, "GET", "/v1/files/who", headers=forged)
    said = answer["headers"]
    secret = (rig.directory / "services" / "internal.secret").read_bytes()
    found = vouched(said["x-cordee-caller"], TO_SERVICES, secret, time.time())
    assert status == 200
    assert found is not None
    assert (found.tenant, found.key) == ("admin", "admin")
    assert KEY not in json.dumps(said)
    assert "cookie" not in said
    assert (said["x-forwarded-proto"], said["traceparent"]) == ("https", "00-a-b-01")
    assert said["x-request-id"] == headers["x-request-id"]


def test_a_forged_caller_is_refused_and_on_open_paths_too(rig, services):
    for path in ("/v1/files/who", "/v1/auth/who"):
        status, _, answer = ask(rig, "GET", path, headers={"X-Cordee-Caller": "v1.e30.e30"})
        assert (status, answer["error"]["code"]) == (401, "invalid_api_key")


def test_an_open_path_passes_with_its_key_and_without(rig, services):
    status, _, answer = ask(rig, "GET", "/v1/auth/who")
    assert (status, answer["headers"]["authorization"]) == (200, f"Bearer {KEY}")
    assert "x-cordee-caller" not in answer["headers"]
    assert ask(rig, "GET", "/v1/auth/who", headers={"X-A": "b"})[0] == 200
    assert ask(rig, "GET", "/v1/files/who", headers={"X-A": "b"})[0] == 401


def test_a_dead_service_is_replaced_by_the_other_and_without_any_clients_are_told_to_come_again(rig, services):
    assert len({ask(rig, "GET", "/v1/files/who")[2]["pid"] for _ in range(4)}) == 2
    services.stop(0)
    assert [ask(rig, "POST", "/v1/files", b"x")[0] for _ in range(6)] == [200] * 6
    services.stop(1)
    status, headers, answer = ask(rig, "POST", "/v1/files", b"x")
    assert (status, answer["error"]["code"]) == (503, "service_away")
    assert int(headers["retry-after"]) >= 1
    big = {**HEADERS, "Content-Length": str(64 << 20), "Expect": "100-continue"}
    assert ask(rig, "POST", "/v1/files", b"", big)[0] == 503
    services.start(0)
    until(lambda: ask(rig, "GET", "/v1/files/who")[0] == 200, "it is back")


def test_what_may_have_been_done_is_not_asked_a_second_time_and_what_only_reads_is(rig, services):
    for method, status in (("POST", 502), ("GET", 200)):
        until(lambda: rig.metric("cordee_services_living") == 2, "both services are there")
        pids = [process.pid for process in services.processes if process is not None]
        services.notes.write_text("")
        client = connection(rig)
        client.request(method, "/v1/files/wait", headers=HEADERS)
        until(lambda: "began" in services.notes.read_text(), "a service has it")
        victim = int(services.notes.read_text().split()[1])
        services.stop(pids.index(victim))
        if method == "GET":
            until(lambda: services.notes.read_text().count("began") == 2, "the other has it")
            client.close()
            until(lambda: "left" in services.notes.read_text(), "it has seen that nobody waits")
        else:
            response = client.getresponse()
            assert (response.status, json.loads(response.read())["error"]["code"]) == (status, "service_lost")
            assert services.notes.read_text().count("began") == 1
            services.start(pids.index(victim))


def test_a_frozen_service_is_left_alone_until_it_speaks(rig, services):
    frozen = services.processes[0]
    assert frozen is not None
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        until(lambda: rig.metric("cordee_services_living") == 1, "it is noticed")
        assert {ask(rig, "GET", "/v1/files/who")[0] for _ in range(4)} == {200}
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    until(lambda: rig.metric("cordee_services_living") == 2, "it is asked again")


def test_a_service_hears_that_the_client_has_gone(rig, services):
    services.notes.write_text("")
    client = connection(rig)
    client.request("GET", "/v1/files/wait", headers=HEADERS)
    until(lambda: "began" in services.notes.read_text(), "a service has it")
    client.close()
    until(lambda: "left" in services.notes.read_text(), "it has heard")
    until(lambda: rig.metric("cordee_passages_open") == 0, "nothing is left")


def test_a_gateway_that_ends_waits_for_what_is_under_way(rig, services):
    services.stop(1)
    client = connection(rig)
    client.request("GET", "/v1/files/events", headers=HEADERS)
    response = client.getresponse()
    assert response.readline() == b"data: 0\n"
    rig.gateways[0].send_signal(signal.SIGTERM)  # the last test of this gateway
    until(lambda: "drains" in rig.log("gateway-1"), "it drains")
    with socket.socket(socket.AF_UNIX) as direct:
        direct.connect(str(services.sockets[0]))
        for _ in range(EVENTS):
            direct.sendall(b"POST /v1/files/next HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
            assert direct.recv(4096).startswith(b"HTTP/1.1 204")
    assert response.read().endswith(b"data: %d\n\n" % (EVENTS - 1))
    assert rig.gateways[0].wait(PATIENCE_S) == 0
