"""What a gateway costs in front of any OpenAI-compatible server, beside the fastest there are.

    .venv/bin/python -m bench.gateway [--peers nginx,vllm-router] [--tests rps,stream,lat,kill] [--reps 3]

Drives bench/peers/bench.py: a mock upstream and a load generator in C share core 1, the gateway has core 0 alone, one gateway at a
time, taken in turn. Ours runs with everything on: keys, limits, routing, breaker, metrics. Peers live in GW_SCRATCH
(bench/peers/README.md); one that is not installed is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.machine import write

HERE = Path(__file__).parent / "peers"
SCRATCH = Path(os.environ.get("GW_SCRATCH", Path.home() / ".cache" / "bench-gw"))
OURS = (
    "cordee=env CORDEE_ADMIN_KEY=sk-bench {python} -m cordee.cli gateway --listen 127.0.0.1:{{port}} --data {data} "
    "--replica http://127.0.0.1:{{b1}} --replica http://127.0.0.1:{{b2}}"
)
FIGURES = {
    "rps": ("cpu_ms_per_req", "rps", "p50_ms", "p99_ms"),
    "stream": ("cpu_ms_per_1k", "lag_p50_ms", "lag_p99_ms", "ttft_p50_ms"),
    "lat": ("added_p50_ms",),
    "kill": ("failed", "lat_max_ms"),
    "start": ("start_s", "idle_rss_mb"),
    "conns2000": ("rss_kb_per_stream", "ok", "bad"),
    "conns9500": ("rss_kb_per_stream", "ok", "bad"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default="nginx,vllm-router")
    parser.add_argument("--tests", default="rps,stream,lat,kill,conns:2000")
    parser.add_argument("--reps", type=int, default=3)
    args = parser.parse_args()
    environment = {**os.environ, "GW_SCRATCH": str(SCRATCH)}
    SCRATCH.mkdir(parents=True, exist_ok=True)
    driver = [sys.executable, str(HERE / "bench.py")]
    subprocess.run([*driver, "build"], env=environment, check=True)
    with tempfile.TemporaryDirectory() as data:
        out = Path(data) / "rows.jsonl"
        ours = OURS.format(python=sys.executable, data=data)
        selected = ["--peers", args.peers, "--tests", args.tests, "--reps", str(args.reps)]
        subprocess.run([*driver, "run", *selected, "--launch", ours, "--out", str(out)], env=environment, check=True)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    peers = summary(rows)
    figures = {"peers": peers, "ratios": ratios(peers), "runs": rows}
    print(json.dumps({"peers": peers, "ratios": figures["ratios"]}, indent=1))
    print(write("gateway", "What does a gateway cost in front of an OpenAI-compatible server?", figures))


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Medians over the repetitions."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for figure in FIGURES.get(row["test"], ()):
            found.setdefault(row["peer"], {}).setdefault(f"{row['test']}.{figure}", []).append(row[figure])
    return {peer: {name: round(median(values), 4) for name, values in by.items()} for peer, by in found.items()}


def ratios(peers: dict[str, dict[str, float]]) -> dict[str, float]:
    """Ours over each peer, for what the CPU is spent on."""
    result = {}
    for peer, figures in peers.items():
        for name in ("rps.cpu_ms_per_req", "stream.cpu_ms_per_1k"):
            if peer != "cordee" and figures.get(name) and name in peers.get("cordee", {}):
                result[f"{name} / {peer}"] = round(peers["cordee"][name] / figures[name], 3)
    return result


if __name__ == "__main__":
    main()
