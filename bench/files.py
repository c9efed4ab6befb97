"""How fast a file goes into the files service and out of it, and what memory that takes, beside a copy by the storage library alone.

The service runs in a process of its own behind a unix socket, encryption and hashing on, as it is set up by default; the client writes
and reads plain sockets, so that it costs as little as a client can. The copy reads one object of a directory and writes another, with
the service's sizes of pieces; like the service, it is done when the bytes are on the disk. Medians of `--rounds`, taken in turn. With
`--gateway HOST:PORT --key KEY --pid N` the file goes through a gateway that is running already, and N is the process watched.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import obstore
from obstore.store import LocalStore

from bench import machine
from cordee.wire.vouch import HEADER, TO_SERVICES, Vouched, vouch
from tests.services.files.serving import DATA, SECRET

MIB = 1 << 20
START_S = 30.0
QUESTION = (
    "Upload and download of a large file: how fast beside a copy by the storage library, and with how much memory?"
)
ADA = Vouched("tenant_a", "key_a", "user_a", frozenset({"files.read", "files.write"}))
BOUNDARY = b"a-boundary-that-is-nowhere-in-the-content"


class Target:
    """Where requests go, and whose memory is watched."""

    def __init__(self, path: str | None, address: str, key: str, pid: int) -> None:
        self._path, self._address, self._key, self.pid = path, address, key, pid

    def connected(self) -> socket.socket:
        if self._path is None:
            host, _, port = self._address.rpartition(":")
            return socket.create_connection((host, int(port)))
        made = socket.socket(socket.AF_UNIX)
        made.connect(self._path)
        return made

    def head(self, line: str, **more: str) -> bytes:
        who = (
            f"{HEADER}: {vouch(ADA, TO_SERVICES, SECRET, time.time())}"
            if not self._key
            else f"Authorization: Bearer {self._key}"
        )
        extra = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in more.items())
        return f"{line} HTTP/1.1\r\nHost: files\r\n{who}\r\n{extra}Connection: close\r\n\r\n".encode()


def send(target: Target, block: bytes, mib: int) -> str:
    """Upload `mib` times the block and return the file's id."""
    begin = b"".join((
        b"--", BOUNDARY, b'\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n--', BOUNDARY,
        b'\r\nContent-Disposition: form-data; name="file"; filename="large"\r\n\r\n',
    ))  # fmt: skip
    end = b"\r\n--" + BOUNDARY + b"--\r\n"
    size = len(begin) + mib * MIB + len(end)
    with target.connected() as to:
        kind = f"multipart/form-data; boundary={BOUNDARY.decode()}"
        to.sendall(target.head("POST /v1/files", Content_Type=kind, Content_Length=str(size)) + begin)
        for _ in range(mib):
            to.sendall(block)
        to.sendall(end)
        answer = b"".join(iter(lambda: to.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 200"), answer[:500]
    return answer.partition(b'"id":"')[2].partition(b'"')[0].decode()


def receive(target: Target, file: str, mib: int) -> None:
    buffer = bytearray(MIB)
    with target.connected() as of:
        of.sendall(target.head(f"GET /v1/files/{file}/content"))
        first = of.recv(65_536)
        assert first.startswith(b"HTTP/1.1 200"), first[:500]
        came = len(first) - first.index(b"\r\n\r\n") - 4
        while count := of.recv_into(buffer):
            came += count
    assert came == mib * MIB, came


async def copy(store: LocalStore, root: Path) -> None:
    found = await obstore.get_async(store, "from")

    async def pieces() -> AsyncIterator[bytes]:
        async for piece in found.stream(min_chunk_size=MIB):
            yield bytes(piece)

    await obstore.put_async(store, "to", pieces(), chunk_size=MIB, max_concurrency=1)
    with (root / "to").open("rb") as made:
        os.fsync(made.fileno())


def most(pid: int) -> float:
    """The largest resident size since `forget`, in MiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def forget(pid: int) -> float:
    """Begin to watch; the resident size now, in MiB."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return most(pid)


@contextlib.contextmanager
def serving(data: Path) -> Iterator[Target]:
    path = str(data / "files.sock")
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--factory", "tests.services.files.serving:make", "--uds", path, "--no-access-log",
         "--log-level", "warning"],
        env=os.environ | {DATA: str(data)},
    )  # fmt: skip
    try:
        until = time.monotonic() + START_S
        with httpx.Client(transport=httpx.HTTPTransport(uds=path)) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    client.get("http://files/v1/files")
                    break
                assert time.monotonic() < until, "the service did not start in time"
                time.sleep(0.1)
        yield Target(path, "", "", process.pid)
    finally:
        process.terminate()
        process.wait(START_S)


def measure(target: Target, root: Path, mib: int, rounds: int) -> dict[str, Any]:
    block = os.urandom(MIB)
    store = LocalStore(root)
    with (root / "from").open("wb") as content:
        for _ in range(mib):
            content.write(block)
        os.fsync(content.fileno())
    send(target, block, 2)  # what the first one costs once and for all
    seconds: dict[str, list[float]] = {"copy": [], "upload": [], "download": []}
    growth = {"upload": 0.0, "download": 0.0}
    for _ in range(rounds):
        began = time.perf_counter()
        asyncio.run(copy(store, root))
        seconds["copy"].append(time.perf_counter() - began)
        before = forget(target.pid)
        began = time.perf_counter()
        file = send(target, block, mib)
        seconds["upload"].append(time.perf_counter() - began)
        growth["upload"] = max(growth["upload"], most(target.pid) - before)
        before = forget(target.pid)
        began = time.perf_counter()
        receive(target, file, mib)
        seconds["download"].append(time.perf_counter() - began)
        growth["download"] = max(growth["download"], most(target.pid) - before)
        with target.connected() as to:
            to.sendall(target.head(f"DELETE /v1/files/{file}"))
            to.recv(1)
    rates = {name: round(mib / statistics.median(taken), 1) for name, taken in seconds.items()}
    return {
        "mib": mib,
        "mib_per_second": rates,
        "ratio": {name: round(rates[name] / rates["copy"], 2) for name in ("upload", "download")},
        "memory_growth_mib": {name: round(grown, 1) for name, grown in growth.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--gateway", default="", help="HOST:PORT of a running gateway")
    parser.add_argument("--key", default="")
    parser.add_argument("--pid", type=int, default=0, help="the process whose memory is watched")
    parser.add_argument("--write", action="store_true", help="write bench/results/files.json")
    asked = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="cordee-files-"))
    try:
        if asked.gateway:
            figures = measure(Target(None, asked.gateway, asked.key, asked.pid), root, asked.mib, asked.rounds)
        else:
            with serving(root) as target:
                figures = measure(target, root, asked.mib, asked.rounds)
    finally:
        shutil.rmtree(root)
    print(figures)
    if asked.write:
        print(machine.write("files", QUESTION, figures))


if __name__ == "__main__":
    main()
