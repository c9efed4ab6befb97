"""Asking the edge how it is, as clients and as its owner: Envoy does not report by itself."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cordee.supervisor.addresses import Resolved

PROBE_S = 1.0  # an edge that has not answered by then is not ready
ANSWER_BYTES_MAX = 64 * 1024
READY_PATH = "/readyz"
STATS_PATH = "/stats?filter=downstream_rq_active"
OPEN_CALLS = re.compile(rb"^http\.(?:web|mobile)\.downstream_rq_active: (\d+)", re.MULTILINE)
OK = 200


@dataclass(frozen=True, slots=True)
class EdgeHealth:
    """`answers`: both addresses speak HTTP. `serves`: both answered /readyz with 200, so a gateway is behind each.
    `open_calls`: requests under way, None where the edge would not say."""

    answers: bool
    serves: bool
    open_calls: float | None


async def probe_edge(web: Resolved, mobile: Resolved, admin: Path) -> EdgeHealth:
    """Never raises for the edge's state."""
    statuses = [await _status(address) for address in (web, mobile)]
    answers = all(status is not None for status in statuses)
    open_calls = await _open_calls(admin) if answers else None
    return EdgeHealth(answers, all(status == OK for status in statuses), open_calls)


async def serves(address: Resolved) -> bool:
    """Whether a client at this address would be served now."""
    return await _status(address) == OK


async def _status(address: Resolved) -> int | None:
    try:
        async with asyncio.timeout(PROBE_S):
            answer = await _get(*await asyncio.open_connection(address.host, address.port), READY_PATH)
        return int(answer.split(b" ", 2)[1])
    except (OSError, ValueError, IndexError, EOFError):
        return None


async def _open_calls(admin: Path) -> float | None:
    try:
        async with asyncio.timeout(PROBE_S):
            answer = await _get(*await asyncio.open_unix_connection(admin), STATS_PATH)
        counts = OPEN_CALLS.findall(answer)
        return float(sum(map(int, counts))) if counts else None
    except (OSError, EOFError):
        return None


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
