"""Ten thousand open streams on one gateway, answered by our own worker: what does one cost in memory, and is any lost?

    .venv/bin/python -m bench.streams [--streams 10000] [--seconds 40]

The oracle engine gives every stream a token a second; the clients are bench/peers/load.c. A stream from our own worker costs the
gateway one descriptor, for all streams share the link.
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
from tests.rig import KEY, Rig

TOKEN_S = 1.0
RAMP_S = 15  # to open all streams


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=40)
    args = parser.parse_args()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    build = [sys.executable, str(HERE / "bench.py"), "build"]
    subprocess.run(build, env={**os.environ, "GW_SCRATCH": str(SCRATCH)}, check=True)
    figures = measure(args.streams, args.seconds)
    print(json.dumps(figures, indent=1))
    print(write("streams", "What does an open stream cost one gateway, ten thousand at once?", figures))


def measure(streams: int, seconds: int) -> dict[str, Any]:
    environment = {
        "CORDEE_ORACLE_SLOTS": str(streams), "CORDEE_ORACLE_TOKEN_S": str(TOKEN_S), "CORDEE_ORACLE_FIRST_TOKEN_S": "0.5",
        "CORDEE_QUEUE_CALLS_MAX": str(streams), "CORDEE_LOG_LEVEL": "warning",
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as directory:
        body = Path(directory) / "body.json"
        tokens = int((seconds - RAMP_S) / TOKEN_S)
        body.write_text(
            json.dumps(
                {
                    "model": "oracle", "messages": [{"role": "user", "content": "x"}], "stream": True,
                    "max_tokens": tokens, "ignore_eos": True, "temperature": 0, "seed": 1,
                }
            )
        )  # fmt: skip
        with Rig(Path(directory), workers=1, environment=environment) as rig:
            gateway = psutil.Process(rig.gateways[0].pid)
            idle = gateway.memory_info().rss
            load = subprocess.Popen(
                [
                    SCRATCH / "load", str(rig.ports[0]), f"c={streams}", f"d={RAMP_S + 2}", f"key={KEY}", "stream=1",
                    "repeat=1", f"ramp={RAMP_S * 1000}", f"body={body}", "timeout=120000", "path=/v1/chat/completions",
                ],
                stdout=subprocess.PIPE,
            )  # fmt: skip
            time.sleep(RAMP_S + 3)
            full, open_streams = gateway.memory_info().rss, int(rig.metric("cordee_calls_open"))
            row = json.loads(load.communicate(timeout=300)[0])
            return {
                "streams_open": open_streams,
                "streams_whole": row["ok"],
                "failed": row["errors"],
                "error_kinds": row["error_kinds"],
                "tokens_each": tokens,
                "gateway_kib_per_stream": round((full - idle) / 1024 / max(1, open_streams), 1),
                "calls_left_open": int(rig.metric("cordee_calls_open")),
            }


if __name__ == "__main__":
    main()
