"""What does storing a response cost: in throughput, and until its first token, side by side with the same responses unstored?

    .venv/bin/python -m bench.responses [--seconds 4] [--rounds 4] [--clients 16]

One gateway, two workers with the oracle engine and one services process with SQLite, on the machine's cores together with the clients.
Stored and unstored take turns, a round of each, in changing order; what is compared is the median of the rounds. Every response is a
stream that is read to its end. Time to first token is measured from the request to the first `response.output_text.delta`; responses
are asked for through the gateway, one after the other by each client.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from bench.machine import percentile, write
from tests.e2e.stores import running_store
from tests.ports import free_port
from tests.rig import HEADERS, NOT_SETTINGS, Rig, until

TOKENS = 64
WARM_S = 4.0  # before the first round, so that everything is warm
DELTA = b"event: response.output_text.delta"
COMPLETED = (b"event: response.completed", b"event: response.incomplete")


class Round:
    """What one round saw."""

    def __init__(self) -> None:
        self.done = 0
        self.first_s: list[float] = []


async def client(session: httpx.AsyncClient, url: str, body: bytes, end: float, seen: Round) -> None:
    while time.monotonic() < end:
        began, first, last = time.monotonic(), 0.0, b""
        async with session.stream("POST", url, content=body, headers=HEADERS, timeout=60) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for piece in answer.aiter_bytes():
                if not first and DELTA in piece:
                    first = time.monotonic() - began
                last = piece
        assert any(word in last for word in COMPLETED), last[-300:]
        if time.monotonic() < end:
            seen.done += 1
            seen.first_s.append(first)


async def measure(url: str, *, stored: bool, clients: int, seconds: float) -> dict[str, float]:
    asked = {"model": "oracle", "input": "Count.", "stream": True, "store": stored, "max_output_tokens": TOKENS}
    body, seen = json.dumps(asked).encode(), Round()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(limits=limits, trust_env=False) as session:
        end = time.monotonic() + seconds
        await asyncio.gather(*(client(session, url, body, end, seen) for _ in range(clients)))
    return {
        "per_second": seen.done / seconds,
        "first_token_ms_p50": 1000 * percentile(seen.first_s, 0.5),
        "first_token_ms_p95": 1000 * percentile(seen.first_s, 0.95),
    }


def figures(url: str, rounds: int, clients: int, seconds: float) -> dict[str, Any]:
    found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
    asyncio.run(measure(url, stored=True, clients=clients, seconds=WARM_S))
    for number in range(rounds):
        for stored in (False, True) if number % 2 else (True, False):
            found[stored].append(asyncio.run(measure(url, stored=stored, clients=clients, seconds=seconds)))
    median = {
        "stored" if stored else "unstored": {
            name: round(statistics.median(one[name] for one in seen), 2) for name in seen[0]
        }
        for stored, seen in found.items()
    }
    ratio = {name: round(median["stored"][name] / median["unstored"][name], 3) for name in median["stored"]}
    return {"clients": clients, "tokens_max": TOKENS, **median, "stored_over_unstored": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=4.0, help="of one round")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--clients", type=int, default=16)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        socket, port = directory / "services.sock", free_port()
        store = stack.enter_context(running_store(directory))
        flags = ("--store", store, "--services", f"unix:{socket}")
        rig = stack.enter_context(Rig(directory, gateways=1, gateway_flags=flags, ports=[port]))
        environment = {key: value for key, value in os.environ.items() if key not in NOT_SETTINGS}
        services = subprocess.Popen(
            [sys.executable, "-m", "cordee.cli", "services", "--listen", f"unix:{socket}", "--data", name,
             "--gateway", f"127.0.0.1:{port}"],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=directory,
        )  # fmt: skip
        try:
            until(lambda: '"title"' in rig.get("/v1/chats/openapi.json"), "services that answer", 60)
            seen = figures(f"{rig.url}/responses", args.rounds, args.clients, args.seconds)
        finally:
            services.kill()
            services.wait()
    print(json.dumps(seen, indent=2))
    print(write("responses", "What does storing a response cost, beside the same one unstored?", seen))


if __name__ == "__main__":
    main()
