"""Asking the edge how it is, as clients and as its owner: Envoy does not report by itself."""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cordee.supervisor.addresses import Resolved

PROBE_S = 1.0  # an edge that has not answered by then is not ready
ANSWER_BYTES_MAX = 64 * 1024
READY_PATH = "/readyz"
STATS_PATH = "/stats?filter=(downstream_rq_active|membership_(healthy|total))$"
MEMBERS = re.compile(rb"^cluster\.(\w+)\.membership_(healthy|total): (\d+)", re.MULTILINE)
CLUSTERS, HEALTHY, TOTAL = (b"web", b"mobile"), b"healthy", b"total"
OPEN_CALLS = re.compile(rb"^http\.(?:web|mobile)\.downstream_rq_active: (\d+)", re.MULTILINE)
OK = 200


@dataclass(frozen=True, slots=True)
class EdgeHealth:
    """`answers`: both addresses speak HTTP. `serves`: both answered /readyz with 200 and the edge finds every gateway well, so
    that nobody is sent to a gateway of the other kind. `open_calls`: requests under way, None where the edge would not say."""

    answers: bool
    serves: bool
    open_calls: float | None


def unchecked() -> ssl.SSLContext:
    """For a question about life to ourselves: whose certificate it is plays no part, and nothing is told."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def probe_edge(web: Resolved, mobile: Resolved, admin: Path, tls: ssl.SSLContext | None = None) -> EdgeHealth:
    """`tls`: how to speak to the addresses. Never raises for the edge's state."""
    statuses = [await _status(address.reachable, tls) for address in (web, mobile)]
    answers = all(status is not None for status in statuses)
    stats = await _stats(admin) if answers else b""
    return EdgeHealth(answers, all(status == OK for status in statuses) and _all_well(stats), _open_calls(stats))


async def serves(address: Resolved, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a client at this address would be served now."""
    return await _status(address, tls) == OK


async def _status(address: Resolved, tls: ssl.SSLContext | None) -> int | None:
    try:
        async with asyncio.timeout(PROBE_S):
            answer = await _get(*await asyncio.open_connection(address.host, address.port, ssl=tls), READY_PATH)
        return int(answer.split(b" ", 2)[1])
    except (OSError, ValueError, IndexError, EOFError):
        return None


async def store_answers(address: str) -> bool:
    """Whether the store at `unix:PATH` has read what it kept, and answers."""
    try:
        async with asyncio.timeout(PROBE_S):
            reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
            try:
                writer.write(b"PING\r\n")
                await writer.drain()
                return await reader.readline() == b"+PONG\r\n"
            finally:
                writer.close()
    except (OSError, ValueError):
        return False


async def _stats(admin: Path) -> bytes:
    try:
        async with asyncio.timeout(PROBE_S):
            return await _get(*await asyncio.open_unix_connection(admin), STATS_PATH)
    except (OSError, EOFError):
        return b""


def _open_calls(stats: bytes) -> float | None:
    counts = OPEN_CALLS.findall(stats)
    return float(sum(map(int, counts))) if counts else None


def _all_well(stats: bytes) -> bool:
    """Each address knows gateways, and finds all of them well. An edge that does not say so may still be finding them."""
    found = {(cluster, what): int(count) for cluster, what, count in MEMBERS.findall(stats)}
    return all(found.get((cluster, HEALTHY)) == found.get((cluster, TOTAL), 0) > 0 for cluster in CLUSTERS)


async def _get(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bytes:
    try:
        # The last request of this connection, so that the end of the answer is the end of the bytes.
        writer.write(f"GET {path} HTTP/1.1\r\nHost: cordee\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        answer = b""
        while len(answer) < ANSWER_BYTES_MAX and (more := await reader.read(ANSWER_BYTES_MAX)):
            answer += more
        return answer
    finally:
        with suppress(OSError):
            writer.close()
