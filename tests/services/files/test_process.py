"""Files in a process of their own, asked by clients that know only their address."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from cordee.wire.vouch import HEADER, TO_SERVICES, Vouched, vouch
from tests.ports import free_port
from tests.rig import until
from tests.services.files.serving import DATA, SECRET

pytestmark = pytest.mark.e2e
START_S, CLEAN_S = 30.0, 40.0
MIB = 1 << 20
# What every answer must be, whatever is asked: no 5xx, nothing that the description does not name.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
ADA = Vouched("tenant_a", "key_ada", "user_ada", frozenset({"files.read", "files.write"}))


def header(who: Vouched = ADA) -> dict[str, str]:
    return {HEADER: vouch(who, TO_SERVICES, SECRET, time.time())}


def start(data: Path, port: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--factory", "tests.services.files.serving:make", "--port", str(port),
         "--no-access-log", "--log-level", "warning"],
        env=os.environ | {DATA: str(data)},
    )  # fmt: skip
    end = time.monotonic() + START_S
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{port}/v1/files", headers=header()).raise_for_status()
        except httpx.HTTPError:
            assert process.poll() is None, "the service ended while it started"
            assert time.monotonic() < end, "the service did not start in time"
            time.sleep(0.1)
        else:
            return process


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def process(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    began = start(tmp_path, port)
    yield began
    began.send_signal(signal.SIGTERM)
    began.wait(START_S)


def stored(data: Path) -> list[Path]:
    return [path for path in (data / "services" / "files").rglob("*") if path.is_file()]


def test_a_large_file_goes_in_and_out_in_constant_memory(process: subprocess.Popen[bytes], port: int, tmp_path: Path):
    client = openai.OpenAI(api_key="unused", base_url=f"http://127.0.0.1:{port}/v1", default_headers=header())
    client.files.create(file=b"x" * MIB, purpose="user_data")  # what the first one costs once and for all
    resident = psutil.Process(process.pid).memory_info
    before, most = resident().rss, 0
    path = tmp_path / "large"
    path.write_bytes(random.Random(1).randbytes(MIB) * 96)
    with path.open("rb") as content:
        made = client.files.create(file=content, purpose="user_data")
    most = max(most, resident().rss)
    came = 0
    with client.files.with_streaming_response.content(made.id) as answer:
        for piece in answer.iter_bytes(MIB):
            came += len(piece)
    most = max(most, resident().rss)
    assert came == 96 * MIB
    assert (most - before) / MIB <= 24  # the figure itself is measured by bench/files.py
    upload = client.uploads.upload_file_chunked(
        file=path, mime_type="application/octet-stream", purpose="user_data", part_size=32 * MIB
    )
    assert upload.file is not None
    assert upload.file.bytes == 96 * MIB


def test_a_killed_process_leaves_no_half_file_and_loses_no_whole_one(tmp_path: Path, port: int):
    address = f"http://127.0.0.1:{port}/v1/files"
    first = start(tmp_path, port)

    def endless() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for number in range(1000):
            yield b"x" * MIB
            if number == 8:
                until(lambda: len(stored(tmp_path)) == 2, "half a file")  # what was sent may still lie in the kernel
                first.kill()

    try:
        whole = httpx.post(
            address, headers=header(), data={"purpose": "user_data"}, files={"file": ("a", b"whole")}
        ).json()
        with pytest.raises(httpx.TransportError):
            httpx.post(
                address,
                headers={**header(), "content-type": "multipart/form-data; boundary=b"},
                content=endless(),
                timeout=60,
            )
    finally:
        first.kill()
        first.wait(START_S)
    second = start(tmp_path, port)
    try:
        until(lambda: len(stored(tmp_path)) <= 1, "half a file gone", CLEAN_S)
        assert [file["id"] for file in httpx.get(address, headers=header()).json()["data"]] == [whole["id"]]
        assert httpx.get(f"{address}/{whole['id']}/content", headers=header()).content == b"whole"
    finally:
        second.terminate()
        second.wait(START_S)


def test_a_fuzzer_that_reads_the_description_finds_nothing_undescribed(
    process: subprocess.Popen[bytes], port: int, tmp_path: Path
):
    assert process.poll() is None
    system = Vouched(ADA.tenant, ADA.key, ADA.subject, ADA.scopes | {"system", "users.write"})
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "run", f"http://127.0.0.1:{port}/v1/files/openapi.json",
         "--checks", CHECKS, "--max-examples", "8", "--phases", "fuzzing", "--seed", "1",
         "--header", f"{HEADER}: {header(system)[HEADER]}", "--request-timeout", "10", "--suppress-health-check", "all",
         "--no-color", "--generation-database", "none"],
        cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
