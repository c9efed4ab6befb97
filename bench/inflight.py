"""Ten thousand requests in flight at once through the gateways of one host, to replicas that take 100 ms: how long does one take?

    .venv/bin/python -m bench.inflight [--requests 10000] [--gateways 2] [--seconds 15]

By Little's law a mean below 500 ms means more than 20,000 answers a second. The replicas (bench/peers/mock.c) and the clients
(bench/peers/load.c) share the machine's processors with the gateways. A proxied request costs a gateway two descriptors; with a
limit of 20,000 one gateway holds somewhat less than 10,000, so the requests are spread over several.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from bench.gateway import HERE, SCRATCH
from bench.machine import write
from tests.ports import free_port
from tests.rig import KEY, until

REPLICA_MS = 100
RAMP_MS = 3000  # to open all connections


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=15)
    args = parser.parse_args()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    build = [sys.executable, str(HERE / "bench.py"), "build"]
    subprocess.run(build, env={**os.environ, "GW_SCRATCH": str(SCRATCH)}, check=True)
    figures = measure(args.requests, args.gateways, args.seconds)
    print(json.dumps(figures, indent=1))
    print(write("inflight", "How long does a request take with ten thousand in flight on one host?", figures))


def measure(requests: int, gateways: int, seconds: int) -> dict[str, Any]:
    running: list[subprocess.Popen[bytes]] = []
    with tempfile.TemporaryDirectory() as data:
        try:
            return _measure(requests, gateways, seconds, Path(data), running)
        finally:
            for process in running:
                process.kill()
                process.wait()


def _measure(
    requests: int, gateways: int, seconds: int, data: Path, running: list[subprocess.Popen[bytes]]
) -> dict[str, Any]:
    replicas = [free_port() for _ in range(2)]
    for port in replicas:
        running.append(subprocess.Popen([SCRATCH / "mock", str(port), f"ttft={REPLICA_MS}"]))
    ports = [free_port() for _ in range(gateways)]
    doors = [_gateway(port, replicas, gateways, data) for port in ports]
    running += doors
    for port in ports:
        until(lambda port=port: _is_ready(port), f"the gateway on port {port} is ready")
    idle = [_rss_kib(door) for door in doors]
    each = requests // gateways
    loads = [
        subprocess.Popen(
            [
                SCRATCH / "load", str(port), f"c={each}", f"d={seconds}", f"key={KEY}", f"ramp={RAMP_MS}",
                f"body={HERE / 'body.json'}", f"srcs={2 + number}",
            ],
            stdout=subprocess.PIPE,
        )
        for number, port in enumerate(ports)
    ]  # fmt: skip
    running += loads
    time.sleep(seconds * 0.8)
    full = [_rss_kib(door) for door in doors]
    rows = [json.loads(load.communicate()[0]) for load in loads]
    answered = sum(row["ok"] for row in rows)
    return {
        "requests_in_flight": sum(row["peak_live"] for row in rows),
        "answered": answered,
        "failed": sum(row["errors"] for row in rows),
        "answers_per_s": round(sum(row["rps"] for row in rows)),
        "response_ms_mean": round(sum(row["lat_ms"]["mean"] * row["ok"] for row in rows) / answered, 1),
        "response_ms_p99": round(max(row["lat_ms"]["p99"] for row in rows), 1),
        "replica_ms": REPLICA_MS,
        "gateways": gateways,
        "gateway_kib_per_request": round((sum(full) - sum(idle)) / requests, 1),
        "error_kinds": [row["error_kinds"] for row in rows],
    }


def _gateway(port: int, replicas: list[int], gateways: int, data: Path) -> subprocess.Popen[bytes]:
    words = [word for replica in replicas for word in ("--replica", f"http://127.0.0.1:{replica}")]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "cordee.cli", "gateway", "--listen", f"127.0.0.1:{port}", "--data", str(data)),
            *("--gateways", str(gateways), *words),
        ],
        env={**os.environ, "CORDEE_ADMIN_KEY": KEY, "CORDEE_LOG_LEVEL": "warning"},
    )


def _is_ready(port: int) -> bool:
    probe = ["curl", "-sf", "-o", "/dev/null", f"http://127.0.0.1:{port}/readyz"]
    return subprocess.run(probe, check=False).returncode == 0


def _rss_kib(process: subprocess.Popen[bytes]) -> int:
    return int(psutil.Process(process.pid).memory_info().rss) // 1024


if __name__ == "__main__":
    main()
