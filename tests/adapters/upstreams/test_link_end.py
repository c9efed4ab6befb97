"""How a link ends: told when the worker went, not when we did."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cordee.adapters.upstreams.link import Link, LinkRules
from cordee.link import frames
from tests.adapters.upstreams.test_kept_answers import Listener

HELLO = frames.hello(
    frames.WorkerHello(
        protocol=frames.PROTOCOL, worker="w", pid=1, model="m", fingerprint="f", context=64, vocabulary=100,
        exact=True, capacity_sequences=2, capacity_tokens=128, beat_s=0.025,
    )
)  # fmt: skip


@pytest.mark.parametrize(("who", "downs"), [("we", 0), ("the worker", 1)])
def test_a_worker_is_down_only_if_it_was_not_we_who_went(tmp_path: Path, who: str, downs: int) -> None:
    async def scenario() -> int:
        gone = asyncio.Event()

        async def worker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(HELLO)
            if who == "we":
                await reader.read()  # until the link is closed
            writer.close()
            gone.set()

        address = str(tmp_path / "w.sock")
        server = await asyncio.start_unix_server(worker, address)
        listener = Listener()
        link = Link(f"unix:{address}", "g", LinkRules(), listener)
        async with asyncio.timeout(5):
            link.open()
            while not listener.is_up and not listener.downs:
                await asyncio.sleep(0)
            if who == "we":
                link.close()
            await gone.wait()
            while who != "we" and not listener.downs:
                await asyncio.sleep(0)
        link.close()
        server.close()
        return min(1, listener.downs)

    assert asyncio.run(scenario()) == downs
