"""Batches as they run: real gateways, an oracle, files and batches in a process that is killed, and the official client."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from cordee.adapters.keyring import create_key
from cordee.cli import main
from tests.ports import free_port
from tests.rig import KEY, NOT_SETTINGS, Rig, oracle_text, until

pytestmark = pytest.mark.e2e
LINES = 200
TOKENS = 12
PATIENCE_S = 60.0


class Platform:
    """Two gateways, two workers, and one services process behind them that can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.socket = directory / "s.sock"
        self.ports = [free_port(), free_port()]
        flags = ("--services", f"unix:{self.socket}")
        self.rig = Rig(directory, gateways=2, ports=self.ports, gateway_flags=flags)
        self.services = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if name not in NOT_SETTINGS}
        gateways = [flag for port in self.ports for flag in ("--gateway", f"127.0.0.1:{port}")]
        settings = {
            "CORDEE_ADMIN_KEY": KEY, "CORDEE_SERVICES_BATCHES_JOBS_LEASE_S": "1", "CORDEE_SERVICES_BATCHES_JOBS_POLL_S": "0.1",
            "CORDEE_SERVICES_BATCHES_JOBS_SETTLE_S": "0.1",
        }  # fmt: skip
        with (self._directory / "services.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "cordee.cli", "services", "--listen", f"unix:{self.socket}", *gateways,
                 "--data", str(self._directory)],
                env=environment | settings, stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        self.services.kill()
        self.services.wait()
        self.services = self.start()

    def is_ready(self) -> bool:
        assert self.services.poll() is None, (self._directory / "services.log").read_text()
        connection = http.client.HTTPConnection("services", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        try:
            connection.sock.connect(str(self.socket))
            connection.request("GET", "/healthz")
            return bool(json.loads(connection.getresponse().read())["status"] == "ready")
        except OSError:
            return False
        finally:
            connection.close()

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(api_key=KEY, base_url=self.rig.url, max_retries=5)


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    made = Platform(tmp_path)
    try:
        with made.rig:
            until(made.is_ready, "every service", PATIENCE_S)
            yield made
    finally:
        made.services.kill()
        made.services.wait()


def _line(number: int) -> dict[str, Any]:
    body = {"model": "oracle", "messages": [{"role": "user", "content": "x"}], "seed": number, "max_tokens": TOKENS}
    if number % 50 == 7:
        body["temperature"] = "hot"  # this one is refused
    return {
        "custom_id": f"r{number}", "method": "POST", "url": "/v1/chat/completions", "body": body | {"ignore_eos": True},
    }  # fmt: skip


def test_a_batch_whose_process_is_killed_twice_has_every_line_once_and_right(
    platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = platform.client
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(_line(number)) + "\n" for number in range(LINES)))
    file = client.files.create(file=source, purpose="batch")
    made = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")

    def answered() -> int:
        counts = client.batches.retrieve(made.id).request_counts
        assert counts is not None
        return counts.completed

    for share in (LINES // 10, LINES // 2):
        until(lambda share=share: answered() >= share, "some lines", PATIENCE_S)
        platform.kill()
        until(platform.is_ready, "every service again", PATIENCE_S)
    until(lambda: client.batches.retrieve(made.id).status == "completed", "the end", PATIENCE_S)
    ended = client.batches.retrieve(made.id)
    assert ended.output_file_id is not None
    assert ended.error_file_id is not None
    output = [json.loads(line) for line in client.files.content(ended.output_file_id).text.splitlines()]
    errors = [json.loads(line) for line in client.files.content(ended.error_file_id).text.splitlines()]
    assert [one["custom_id"] for one in errors] == [f"r{n}" for n in range(LINES) if n % 50 == 7]
    assert {one["response"]["status_code"] for one in errors} == {400}
    assert [one["custom_id"] for one in output] == [f"r{n}" for n in range(LINES) if n % 50 != 7]
    for one in output:
        said = one["response"]["body"]["choices"][0]["message"]["content"]
        assert said.strip() == oracle_text(int(one["custom_id"][1:]), TOKENS).strip()
    assert ended.request_counts is not None
    assert (ended.request_counts.completed, ended.request_counts.failed) == (len(output), len(errors))
    assert sum(entry.purpose == "batch_output" for entry in client.files.list()) == 2

    monkeypatch.setenv("CORDEE_ADMIN_KEY", KEY)
    assert main(["jobs", "--url", platform.rig.url, "--data", str(tmp_path)]) == 0
    assert "batch" in capsys.readouterr().out


def test_a_tenant_is_erased_from_all_services_and_others_are_not(platform: Platform, tmp_path: Path) -> None:
    key, _ = create_key(tmp_path, "leaving", tenant="leaving")
    client = openai.OpenAI(api_key=key, base_url=platform.rig.url, max_retries=5)
    until(lambda: _is_known(client), "that the key is known", PATIENCE_S)
    theirs = client.files.create(file=("a.txt", b"hello"), purpose="user_data")
    ours = platform.client.files.create(file=("a.txt", b"hello"), purpose="user_data")
    status, job = platform.rig.post("/v1/jobs", {"kind": "tenant.erase", "tenant": "leaving"})
    assert status == 200, job
    until(lambda: _job(platform, job["id"]).get("state") in ("done", "failed"), "the end", PATIENCE_S)
    assert _job(platform, job["id"])["state"] == "done"
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(theirs.id)
    assert platform.client.files.retrieve(ours.id).id == ours.id


def _is_known(client: openai.OpenAI) -> bool:
    try:
        client.models.list()
    except openai.AuthenticationError:
        return False
    return True


def _job(platform: Platform, job_id: str) -> Any:
    return json.loads(platform.rig.get(f"/v1/jobs/{job_id}") or "{}")  # "" when nobody answered in time
