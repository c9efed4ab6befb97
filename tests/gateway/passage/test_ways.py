"""Whom a gateway takes for silent: a process that says nothing, not one that it had no time to hear."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest

from cordee.adapters.clock import LoopClock
from cordee.gateway.passage.ways import Ways

pytestmark = pytest.mark.anyio
SILENT_S = 0.3
PATIENCE_S = 30.0


class Service:
    """Answers what is asked at its socket, unless it `is_frozen`; `pause_s`: as soon as it is asked everything stands still so long."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_frozen = False
        self.pause_s = 0.0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                self.asked += 1
                time.sleep(self.pause_s)  # the gateway stands still with it
                if not self.is_frozen:
                    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")


async def looked_at(service: Service, path: Path, looks: int) -> list[int]:
    """Who fell silent in so many looks."""
    server = await asyncio.start_unix_server(service.serve, path)
    ways = Ways([f"unix:{path}"], LoopClock(asyncio.get_running_loop()), 1.0, SILENT_S)
    silent: list[int] = []
    ways.fell_silent = silent.append
    looking = asyncio.create_task(ways.run())
    async with asyncio.timeout(PATIENCE_S):
        while service.asked < looks and not silent:
            await asyncio.sleep(0.01)
        await asyncio.sleep(SILENT_S * 2)
    looking.cancel()
    server.close()
    return silent


async def test_one_that_says_nothing_is_silent(tmp_path: Path) -> None:
    service = Service()
    service.is_frozen = True
    assert 0 in await looked_at(service, tmp_path / "s.sock", 2)


async def test_one_that_answered_while_the_gateway_stood_still_is_not(tmp_path: Path) -> None:
    service = Service()
    service.pause_s = SILENT_S * 2
    assert await looked_at(service, tmp_path / "s.sock", 2) == []
