"""A worker as a process of its own, spoken to as a gateway speaks, and stopped as a supervisor stops."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cordee.compose import worker as compose
from cordee.compose.following import Following
from cordee.config.launch import WorkerLaunch
from cordee.config.sections.processes import Worker
from cordee.config.tree import Config
from cordee.domain.chunk import Finish
from cordee.engine.job import Broken, Deliver
from cordee.link import frames
from cordee.policy.oracle import token_at
from tests.engine.doubles import RecordingEngine, submit

pytestmark = pytest.mark.e2e

START_S = 20.0
LONG = 500  # tokens, of which each takes 10 ms: still under way when this process has stood still for a moment


class Gateway(asyncio.Protocol):
    """Keeps all that a worker sends."""

    def __init__(self) -> None:
        self.splitter = frames.Splitter()
        self.kinds: list[int] = []
        self.rows: list[tuple[int, int, int, int, int]] = []
        self.refusals: list[frames.Refuse] = []
        self.lost = asyncio.Event()
        self.news = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(frames.hello(frames.GatewayHello(protocol=frames.PROTOCOL, gateway="test", pid=os.getpid())))

    def data_received(self, data: bytes) -> None:
        for kind, payload in self.splitter.feed(data):
            self.kinds.append(kind)
            if kind == frames.STEP:
                self.rows += frames.read_rows(payload)
            elif kind == frames.REFUSE:
                self.refusals.append(frames.read_refuse(payload))
        self.news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        self.news.set()

    async def until(self, kind: int) -> None:
        async with asyncio.timeout(START_S):
            while kind not in self.kinds:
                self.news.clear()
                await self.news.wait()

    async def until_rows(self, count: int) -> None:
        async with asyncio.timeout(START_S):
            while len(self.rows) < count:
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def worker(tmp_path: Path, *flags: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, Gateway]]:
    path = tmp_path / "w.sock"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cordee.cli", "worker", "--listen", f"unix:{path}", "--data", str(tmp_path),
        "--model", "oracle", *flags, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        gateway = await connected(path, process)
        await gateway.until(frames.HELLO)
        yield process, gateway
        gateway.transport.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def connected(path: Path, process: asyncio.subprocess.Process) -> Gateway:
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(START_S):
        while True:
            try:
                _, gateway = await loop.create_unix_connection(Gateway, str(path))
            except (FileNotFoundError, ConnectionRefusedError):  # it is there a moment before anybody listens
                assert process.returncode is None, "the worker has ended"
                await asyncio.sleep(0.02)
            else:
                return gateway


def test_sigterm_lets_what_runs_end_and_refuses_what_is_new(tmp_path: Path):
    async def scenario() -> None:
        async with worker(tmp_path) as (process, gateway):
            gateway.transport.write(frames.submit(1, submit(max_tokens=LONG, seed=3, ignore_eos=True)))
            await gateway.until_rows(5)
            process.send_signal(signal.SIGTERM)
            await gateway.until(frames.DRAIN)
            gateway.transport.write(frames.submit(2, submit()))
            async with asyncio.timeout(START_S):
                await gateway.lost.wait()
            assert await process.wait() == 0
            assert [refusal.busy for refusal in gateway.refusals] == [True]
            tokens = [(index, token) for _, _, finish, index, token in gateway.rows if not finish]
            assert tokens == [(i, token_at(3, i)) for i in range(LONG)]
            assert [(f, i) for _, _, f, i, _ in gateway.rows if f] == [(Finish.LENGTH, LONG)]
            assert not (tmp_path / "w.sock").exists()

    asyncio.run(scenario())


def test_asked_twice_it_does_not_wait(tmp_path: Path):
    async def scenario() -> None:
        async with worker(tmp_path) as (process, gateway):
            gateway.transport.write(frames.submit(1, submit(max_tokens=60_000, ignore_eos=True)))
            await gateway.until_rows(5)
            process.send_signal(signal.SIGTERM)
            await gateway.until(frames.DRAIN)
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(START_S):
                assert await process.wait() == 0

    asyncio.run(scenario())


def test_a_second_worker_does_not_take_the_address(tmp_path: Path):
    async def scenario() -> None:
        async with worker(tmp_path) as (_, gateway):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "cordee.cli", "worker", "--listen", f"unix:{tmp_path / 'w.sock'}",
                "--data", str(tmp_path), "--model", "oracle", stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
            _, said = await process.communicate()
            assert process.returncode == 1
            assert b"another worker listens on" in said
            gateway.transport.write(frames.submit(1, submit(max_tokens=2)))
            await gateway.until_rows(3)

    asyncio.run(scenario())


def test_a_broken_engine_ends_the_process_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Breaking(RecordingEngine):
        def start(self, deliver: Deliver, broken: Broken) -> None:
            asyncio.get_running_loop().call_soon(broken, "the kernels are gone")

    monkeypatch.setattr(compose, "open_engine", lambda config, clock, name: Breaking())
    launch = WorkerLaunch("w", 1, f"unix:{tmp_path / 'w.sock'}", tmp_path)
    config = Config(worker=Worker(confined=False))  # its rights would be gone from all tests that follow
    assert compose.run(config, launch, Following(config, lambda: config)) == 1


@pytest.mark.parametrize(
    ("flags", "says", "code"),
    [
        (["--model", "/nowhere/m.gguf"], "no such file", compose.UNUSABLE),
        (["--model", "never-heard-of"], "there is no model", compose.UNUSABLE),
        (["--model", "oracle", "--listen", "unix:/proc/w.sock"], "/proc", 1),
    ],
)
def test_what_is_missing_is_said_and_the_exit_code_tells_whether_to_try_again(
    tmp_path: Path, flags: list[str], says: str, code: int
):
    args = ["worker", "--listen", f"unix:{tmp_path / 'w.sock'}", "--data", str(tmp_path), *flags]
    done = subprocess.run([sys.executable, "-m", "cordee.cli", *args], capture_output=True, text=True, timeout=START_S)
    assert done.returncode == code
    said = done.stderr.splitlines()[-1]
    assert said.startswith("cordee worker: ")
    assert says in said
