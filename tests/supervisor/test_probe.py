"""When the edge counts as ready: every address has gateways of its own kind to send to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from cordee.supervisor.addresses import resolve
from cordee.supervisor.probe import probe_edge


def stats(**found: tuple[int, int]) -> bytes:
    lines = [
        f"cluster.{cluster}.membership_{what}: {count}\n"
        for cluster, counts in found.items()
        for what, count in zip(("healthy", "total"), counts, strict=True)
    ]
    return "".join([*lines, "http.web.downstream_rq_active: 3\n", "http.mobile.downstream_rq_active: 4\n"]).encode()


@pytest.mark.parametrize(
    ("said", "serves"),
    [
        (stats(web=(4, 4), mobile=(4, 4), grpc=(2, 2)), True),
        (stats(web=(3, 4), mobile=(4, 4)), False),
        (stats(web=(4, 4), mobile=(0, 4)), False),
        (stats(web=(4, 4)), False),
        (stats(web=(0, 0), mobile=(0, 0)), False),  # it has not read its own configuration yet
        (b"", False),
    ],
)
def test_it_serves_when_it_finds_every_gateway_of_both_addresses_well(
    tmp_path: Path, said: bytes, serves: bool
) -> None:
    async def probe() -> tuple[bool, bool, float | None]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + said)
            writer.close()

        public = await asyncio.start_server(answer, "127.0.0.1", 0)
        admin = await asyncio.start_unix_server(answer, tmp_path / "admin.sock")
        async with public, admin:
            address = resolve(f"127.0.0.1:{public.sockets[0].getsockname()[1]}", "--web")
            found = await probe_edge(address, address, tmp_path / "admin.sock")
        return found.answers, found.serves, found.open_calls

    assert asyncio.run(probe()) == (True, serves, 7.0 if said else None)
